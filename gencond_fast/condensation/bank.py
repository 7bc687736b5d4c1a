"""The statistics bank: what the real data looks like to every feature network, as a table.

For each network a finite set of augmentations is drawn once, and the class moments of the
augmented real images are stored under (network, augmentation). The generated batch is later
augmented with the same parameters, so the real side of a step is a look-up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gencond_fast.cache import cache_directory, cache_key, load_tensors, save_tensors
from gencond_fast.condensation.networks import FeatureNetworks, network_key
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import OPERATIONS, Augmentation, augment, draw_augmentation
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.stream import stream
from gencond_fast.functional import ClassMoments, class_moments
from gencond_fast.rng import named_rng

_BATCH = 256


@dataclass(frozen=True, eq=False)
class BankEntry:
    """The table of one network.

    Attributes:
        augmentations: A transforms, the first one the identity.
        count: [C] int64, real images of each class.
        mean: [A, C, D] float32, class means of the scaled features.
        m2: [A, C, D] float32, their sums of squared deviations.
        scale: features are divided by it; makes the mean within-class variance, summed over
            features, one under the identity, so that losses of all networks weigh the same.
        centre: [A, D] float32, mean of the class means: the origin for angles between features,
            which are nearly the same for all images before it is taken off.
    """

    augmentations: list[Augmentation]
    count: Tensor
    mean: Tensor
    m2: Tensor
    scale: Tensor
    centre: Tensor

    def moments(self, augmentation: int, classes: Tensor) -> ClassMoments:
        """Moments of the given classes [C'] under one augmentation."""
        return ClassMoments(
            self.count[classes], self.mean[augmentation, classes], self.m2[augmentation, classes]
        )


def build_bank(task: Task, networks: FeatureNetworks) -> list[BankEntry]:
    """One pass over the real training images for all networks, or their tables from the cache.

    Memory: the tables and one batch, whatever the number of images.

    Raises:
        InputError: an image cannot be read.
        OSError: the cache cannot be written.
    """
    directory = cache_directory("statistics")
    options = task.config.networks
    transforms = [_draw_augmentations(task, plan.index) for plan in networks.plans]
    paths = [
        directory
        / (
            cache_key(
                kind="moments",
                network=network_key(task, plan),
                augmentations=[(t.operation, t.draws.tolist()) for t in drawn],
                images_per_class=options.images_per_class,
            )
            + ".safetensors"
        )
        for plan, drawn in zip(networks.plans, transforms, strict=True)
    ]
    found = {index: load_tensors(path) for index, path in enumerate(paths)}
    tables = {index: table for index, table in found.items() if table is not None}
    missing = [index for index in found if index not in tables]
    if missing:
        for index, moments in _measure(task, networks, transforms, missing).items():
            tables[index] = {
                "count": moments[0].count,
                "mean": torch.stack([m.mean for m in moments]),
                "m2": torch.stack([m.m2 for m in moments]),
            }
            save_tensors(paths[index], tables[index])
    device = task.runtime.device
    return [
        _scaled({name: value.to(device) for name, value in tables[index].items()}, drawn)
        for index, drawn in enumerate(transforms)
    ]


def _measure(
    task: Task, networks: FeatureNetworks, transforms: list[list[Augmentation]], wanted: list[int]
) -> dict[int, list[ClassMoments]]:
    tables: dict[int, list[ClassMoments]] = {}
    indices = _chosen_images(task)
    batches = stream(
        task.source.train,
        channels=task.source.channels,
        image_size=task.image_size,
        batch_size=_BATCH,
        indices=indices,
    )
    with task.reporter.task("real statistics", len(indices)) as progress, torch.no_grad():
        for batch in batches:
            images = task.normalisation(batch.images.to(task.runtime.device))
            labels = batch.labels.to(task.runtime.device)
            for index in wanted:
                networks.select(index)
                found = [
                    class_moments(
                        networks.features(augment(images, transform)), labels, task.num_classes
                    )
                    for transform in transforms[index]
                ]
                known = tables.get(index)
                tables[index] = (
                    found
                    if known is None
                    else [k.merge(f) for k, f in zip(known, found, strict=True)]
                )
            progress.advance(len(labels))
    return tables


def _chosen_images(task: Task) -> np.ndarray:
    """Rows of the training split behind the table: all, or the same number of each class."""
    labels = task.source.train.labels
    limit = task.config.networks.images_per_class
    if limit is None:
        return np.arange(len(labels))
    return np.flatnonzero(shuffled_rank(labels, task.config.seed) < limit)


def _draw_augmentations(task: Task, network: int) -> list[Augmentation]:
    """The identity, then the operations in turn, each with parameters shared by the batch."""
    names = ("identity", *OPERATIONS)
    device = str(task.runtime.device)
    return [
        draw_augmentation(
            names[place % len(names)],
            named_rng(task.config.seed, "augmentation", network, place),
            device=device,
        )
        for place in range(task.config.networks.augmentations)
    ]


def _scaled(tensors: dict[str, Tensor], augmentations: list[Augmentation]) -> BankEntry:
    count = tensors["count"]
    variance = tensors["m2"][0].sum() / count.sum().clamp(min=1)
    scale = torch.where(variance > 0, variance, 1.0).sqrt()
    mean = tensors["mean"] / scale
    centre = mean[:, count > 0].mean(1)
    return BankEntry(augmentations, count, mean, tensors["m2"] / scale.square(), scale, centre)
