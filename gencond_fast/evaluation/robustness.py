"""What a student scores on test images that were changed to mislead it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gencond_fast.config import AttackConfig
from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.evaluation.attacks import Logits, autoattack, fgsm, pgd
from gencond_fast.models.classifier import Classifier
from gencond_fast.system.rng import derive_seed, named_rng
from gencond_fast.system.runtime import Runtime
from gencond_fast.system.upload import upload

CLEAN = "clean"
_BATCH = 250


def attacked_rows(labels: np.ndarray, images: int) -> np.ndarray:
    """The test images that are attacked: random ones, as many of each class as can be.

    Args:
        labels: int64 [N], of all test images.
        images: how many are wanted; there may be fewer.

    Returns:
        Ascending int64 rows, the same for every student.
    """
    rank = shuffled_rank(labels, derive_seed(0, "attacked images") % 2**32)
    return np.sort(np.lexsort((labels, rank))[:images])


@torch.no_grad()
def robust_accuracies(
    student: Classifier,
    source: Source,
    rows: np.ndarray,
    image_size: int,
    normalisation: Normalisation,
    runtime: Runtime,
    options: AttackConfig,
    *,
    seed: int,
    tell: Callable[[int], None] = lambda done: None,
    waiting: DataTimer | None = None,
) -> dict[str, float]:
    """Shares of the attacked images that the student names rightly; streamed.

    All in float32, whatever the precision of the runtime: rounding would hide gradients.

    Args:
        student: trained, on the device of the runtime; its parameters are frozen for good.
        source: with a validation split.
        rows: of that split, see `attacked_rows`.
        image_size: S.
        normalisation: of the students' input.
        runtime: device and layout.
        options: which attacks, and how strong.
        seed: of everything random in them.
        tell: called with the number of images that are behind it.
        waiting: measures the time until images come.

    Returns:
        `clean`, of the same images unchanged, then one for each attack by its name.
    """
    assert source.val is not None
    student.eval().requires_grad_(False)

    def logits(images: Tensor) -> Tensor:
        return student(runtime.arrange(normalisation(images)))

    names = (CLEAN, *options.names)
    right = torch.zeros(len(names), dtype=torch.int64, device=runtime.device)
    tested = 0  # fewer than the rows where undecodable ones are left out
    batches = stream(
        source.val,
        channels=source.channels,
        image_size=image_size,
        batch_size=_BATCH,
        indices=rows,
    )
    for number, batch in enumerate((waiting or DataTimer()).around(batches)):
        images = upload(batch.images, runtime.device).float() / 255.0
        labels = upload(batch.labels, runtime.device)
        for place, name in enumerate(names):
            part = derive_seed(seed, name, number)
            changed = _changed(name, logits, images, labels, options, len(source.class_names), part)
            right[place] += (logits(changed).argmax(1) == labels).sum()
        tested += len(labels)
        tell(tested)
    return {name: count / tested for name, count in zip(names, right.tolist(), strict=True)}


def _changed(
    name: str,
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    options: AttackConfig,
    classes: int,
    seed: int,
) -> Tensor:
    epsilon = options.epsilon / 255.0
    if name == "fgsm":
        return fgsm(logits, images, labels, epsilon=epsilon)
    if name == "pgd":
        return pgd(
            logits,
            images,
            labels,
            epsilon=epsilon,
            step_size=options.step / 255.0,
            steps=options.steps,
            rng=named_rng(seed, "start"),
        )
    if name == "autoattack":
        return autoattack(logits, images, labels, epsilon=epsilon, classes=classes, seed=seed)
    return images
