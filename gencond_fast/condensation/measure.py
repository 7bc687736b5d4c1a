"""One pass over the real images that gives the tables of many networks at once.

Decoding is paid once for all networks and augmentations. An interrupted pass goes on where it last
saved, and gives the same bits as one that was not interrupted.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencond_fast.cache import load_tensors, save_tensors
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import Augmentation, augment
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.source import refuse_empty_class
from gencond_fast.data.stream import Batch, stream
from gencond_fast.moments import ClassMoments, class_moments

_BATCH = 256
_SAVE_EVERY = 60.0  # seconds of work that an interruption may cost

Tables = dict[int, ClassMoments]
"""Of each network: count [C], mean [A, C, D] and m2 [A, C, D] under its A augmentations."""


def measure_tables(
    task: Task,
    networks: FeatureNetworks,
    transforms: list[list[Augmentation]],
    wanted: list[int],
    partial: Path,
) -> Tables:
    """Moments of the augmented features of the real images, under the wanted networks.

    Memory: the tables and a few batches, whatever the number of images.

    Args:
        task: the data and the machine.
        networks: the feature networks.
        transforms: of each network, its augmentations.
        wanted: the networks to measure.
        partial: where the pass saves what it has; removed at the end.

    Raises:
        InputError: an image cannot be read, or no measured image of a class can be decoded.
        OSError: the partial result cannot be written.
    """
    rows = chosen_images(task)
    tables, start = _load(partial, wanted, task.runtime.device)
    done = start
    batches = stream(
        task.source.train,
        channels=task.source.channels,
        image_size=task.image_size,
        batch_size=_BATCH,
        indices=rows[start:],
    )
    saved = time.monotonic()
    with task.reporter.task("real statistics", len(rows), start) as progress, torch.no_grad():
        for batch in batches:
            for index, found in _measure(task, networks, transforms, wanted, batch).items():
                tables[index] = tables[index].merge(found) if index in tables else found
            step = start + batch.done - done
            done += step
            if time.monotonic() - saved > _SAVE_EVERY:
                _save(partial, tables, done)
                saved = time.monotonic()
            progress.advance(step)
    refuse_empty_class(_counts(tables, task), task.source.class_names, task.source.location)
    partial.unlink(missing_ok=True)
    return tables


def chosen_images(task: Task) -> np.ndarray:
    """Rows of the training split behind the tables: all, or the same number of each class."""
    labels = task.source.train.labels
    limit = task.config.networks.images_per_class
    if limit is None:
        return np.arange(len(labels))
    return np.flatnonzero(shuffled_rank(labels, task.config.seed) < limit)


def _counts(tables: Tables, task: Task) -> np.ndarray:
    """Images of each class that were measured, [C]; fewer than chosen where some are left out."""
    for table in tables.values():
        return table.count.cpu().numpy()
    return np.zeros(task.num_classes, dtype=np.int64)


def _measure(
    task: Task,
    networks: FeatureNetworks,
    transforms: list[list[Augmentation]],
    wanted: list[int],
    batch: Batch,
) -> Tables:
    images = task.normalisation(batch.images.to(task.runtime.device))
    labels = batch.labels.to(task.runtime.device)
    tables = {}
    for index in wanted:
        networks.select(index)
        found = [
            class_moments(networks.features(augment(images, transform)), labels, task.num_classes)
            for transform in transforms[index]
        ]
        mean, m2 = (torch.stack([getattr(m, name) for m in found]) for name in ("mean", "m2"))
        tables[index] = ClassMoments(found[0].count, mean, m2)
    return tables


def _save(partial: Path, tables: Tables, done: int) -> None:
    tensors: dict[str, Tensor] = {"done": torch.tensor(done)}
    for index, table in tables.items():
        tensors |= {f"{index} {name}": value for name, value in vars(table).items()}
    save_tensors(partial, tensors)


def _load(partial: Path, wanted: list[int], device: torch.device) -> tuple[Tables, int]:
    tensors = load_tensors(partial)
    if tensors is None:
        return {}, 0
    names = ("count", "mean", "m2")
    tables = {
        index: ClassMoments(*(tensors[f"{index} {name}"].to(device) for name in names))
        for index in wanted
    }
    return tables, int(tensors["done"])
