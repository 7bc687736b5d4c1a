"""The one look at the real images: class sums of clipped features, noised before anyone sees them.

Sums are made of whole numbers, and the noise is rounded to whole numbers too: that is the same as
rounding a noised real number, so low-order bits of floating-point numbers, by which textbook
samplers give data away (Mironov, CCS 2012), tell nothing of the sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencond_fast.condensation.bank import draw_augmentations
from gencond_fast.condensation.checkpoint import CHECKPOINTS, open_checkpoint
from gencond_fast.condensation.directory import RELEASED
from gencond_fast.condensation.measure import chosen_images
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.private.features import Frame, measure_frame
from gencond_fast.condensation.private.gaussian import secret_gaussian
from gencond_fast.condensation.private.guarantee import noise_deviation
from gencond_fast.condensation.private.task import PrivateTask
from gencond_fast.condensation.state import load_state, save_state
from gencond_fast.data.augment import augment
from gencond_fast.data.stream import stream
from gencond_fast.errors import InputError
from gencond_fast.system.interrupt import Interrupts
from gencond_fast.system.words import counted

_BATCH = 256
_GRID = 2.0**-26  # of the noise: what the whole numbers count
_INSIDE = 1.0 - 2.0**-32  # keeps clipped vectors within the bound in spite of their own rounding


@dataclass(frozen=True, eq=False)
class Release:
    """What is known of the real images from now on.

    Attributes:
        count: int64 [C], images behind the sums, which are taken as public.
        mean: float32 [K, A, C, D], noised class means of clipped features of K networks.
        origin: float32 [K, A, D], see `Frame`; of noise, as is the next.
        unit: float32 [K, A].
    """

    count: Tensor
    mean: Tensor
    origin: Tensor
    unit: Tensor


def release(task: PrivateTask, networks: FeatureNetworks, directory: Path) -> Release:
    """The noised class means of a run: drawn once, then taken from its directory.

    An interrupted pass begins anew: sums without noise are never on the disk.

    Raises:
        InputError: an image cannot be read, or a release was made and is lost or damaged, so that
            another one would spend the budget again.
        OSError: the directory cannot be written.
    """
    path = directory / RELEASED
    if path.exists():
        values = load_state(path)
        if values is None:
            raise _spent(path, "damaged")
        return Release(**values)
    if open_checkpoint(directory / CHECKPOINTS) is not None:
        raise _spent(path, "gone")
    with torch.no_grad():
        made = _measure(task, networks)
    save_state(path, vars(made))
    return made


def _measure(task: PrivateTask, networks: FeatureNetworks) -> Release:
    frames = []
    for place, plan in enumerate(networks.plans):
        networks.select(place)
        frames.append(measure_frame(task, networks, draw_augmentations(task, plan.index)))
    rows = chosen_images(task)
    count = np.bincount(task.images.labels[rows], minlength=task.num_classes)
    grid = noise_deviation(task.config) * _GRID
    task.reporter.message(
        f"the one look at {counted(len(rows), 'real image')}: "
        f"{counted(len(frames), 'network')} x "
        f"{counted(task.config.networks.num_augmentations, 'augmentation')}, then noise"
    )
    sums = clean_sums(task, networks, frames, rows, grid)
    noise = np.rint(secret_gaussian(*sums.shape) / _GRID).astype(np.int64)
    mean = (sums.cpu().numpy() + noise) * grid / np.maximum(count, 1)[:, None]
    return Release(
        torch.from_numpy(count),
        torch.from_numpy(mean).float(),
        torch.stack([frame.origin.cpu() for frame in frames]),
        torch.stack([frame.unit.cpu() for frame in frames]),
    )


def clean_sums(
    task: PrivateTask,
    networks: FeatureNetworks,
    frames: list[Frame],
    rows: np.ndarray,
    grid: float,
) -> Tensor:
    """Class sums of the clipped features: int64 [K, A, C, D], in units of `grid`.

    To be noised before they are used for anything. Sums of whole numbers are exact: an image
    moves them by what it adds to them, to the last bit.

    Args:
        task: the images.
        networks: K feature networks.
        frames: of each of them.
        rows: ascending, the images that take part.
        grid: what a whole number counts.

    Raises:
        InputError: an image cannot be read.
        KeyboardInterrupt, Terminated: asked to stop; nothing is kept.
    """
    transforms = [draw_augmentations(task, plan.index) for plan in networks.plans]
    device = task.runtime.device
    width = networks.feature_dim(0)  # of all: `check_private` allows one architecture
    shape = (len(networks), len(transforms[0]), task.num_classes, width)
    sums = torch.zeros(shape, dtype=torch.int64, device=device)
    batches = stream(
        task.images,
        channels=task.source.channels,
        image_size=task.image_size,
        batch_size=_BATCH,
        indices=rows,
    )
    with Interrupts() as interrupts, task.reporter.phase("release", len(rows)) as progress:
        for batch in batches:
            images = task.normalisation(batch.images.to(device))
            labels = batch.labels.to(device)
            for network, frame in enumerate(frames):
                networks.select(network)
                for place, transform in enumerate(transforms[network]):
                    features = networks.features(augment(images, transform)).double()
                    clipped = frame.clipped(features, place, task.config.privacy.clip)
                    whole = to_whole(clipped, grid)
                    sums[network, place].index_add_(0, labels, whole)
            interrupts.raise_pending()
            progress.advance(len(labels))
    return sums


def to_whole(clipped: Tensor, grid: float) -> Tensor:
    """Clipped float64 [B, D] as int64, in units of `grid`.

    Rounded towards zero, so that norms do not grow; a row that is not finite counts as zero.
    """
    finite = clipped.isfinite().all(1, keepdim=True)
    return torch.where(finite, clipped * (_INSIDE / grid), 0.0).trunc().long()


def _spent(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}, the noised statistics of this run, is {what}, and to draw them again would spend "
        "the privacy budget twice: put it back, or start in another --out as a run of its own"
    )
