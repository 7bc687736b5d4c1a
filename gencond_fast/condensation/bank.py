"""The statistics bank: what the real data looks like to every feature network, as a table.

For each network a finite set of augmentations is drawn once, and the class moments of the
augmented real images are stored under (network, augmentation). The generated batch is later
augmented with the same parameters, so the real side of a step is a look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gencond_fast.cache import cache_directory, cache_key, exclusive, load_tensors, save_tensors
from gencond_fast.condensation.measure import measure_tables
from gencond_fast.condensation.networks import FeatureNetworks, network_key
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import OPERATIONS, Augmentation, draw_augmentation
from gencond_fast.moments import ClassMoments
from gencond_fast.rng import named_rng

_WAITING = "another process measures the same statistics: waiting for it"


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

    Memory: the tables and one batch, whatever the number of images. Of several processes that want
    the same tables one makes them, and the others wait for it.

    Raises:
        InputError: an image cannot be read.
        OSError: the cache cannot be written.
    """
    transforms = [_draw_augmentations(task, plan.index) for plan in networks.plans]
    paths = _paths(task, networks, transforms)
    if not all(path.exists() for path in paths):
        together = paths[0].with_name(cache_key(kind="pass", tables=[path.stem for path in paths]))
        with exclusive(together, lambda: task.reporter.message(_WAITING)):
            tables = _tables(task, networks, transforms, paths)
    else:
        tables = _tables(task, networks, transforms, paths)
    device = task.runtime.device
    return [
        _scaled({name: value.to(device) for name, value in tables[index].items()}, drawn)
        for index, drawn in enumerate(transforms)
    ]


def _paths(
    task: Task, networks: FeatureNetworks, transforms: list[list[Augmentation]]
) -> list[Path]:
    """Where in the cache the table of each network is kept."""
    directory = cache_directory("statistics")
    keys = [
        cache_key(
            kind="moments",
            network=network_key(task, plan),
            augmentations=[(t.operation, t.draws.tolist()) for t in drawn],
            images_per_class=task.config.networks.images_per_class,
        )
        for plan, drawn in zip(networks.plans, transforms, strict=True)
    ]
    return [directory / f"{key}.safetensors" for key in keys]


def _tables(
    task: Task, networks: FeatureNetworks, transforms: list[list[Augmentation]], paths: list[Path]
) -> dict[int, dict[str, Tensor]]:
    """Every table from the cache; those that are missing are measured and put there."""
    found = {index: load_tensors(path) for index, path in enumerate(paths)}
    tables = {index: table for index, table in found.items() if table is not None}
    missing = [index for index in found if index not in tables]
    if missing:
        partial = cache_key(kind="partial", tables=[paths[index].stem for index in missing])
        measured = measure_tables(
            task, networks, transforms, missing, paths[0].with_name(f"{partial}.partial")
        )
        for index, table in measured.items():
            tables[index] = dict(vars(table))
            save_tensors(paths[index], tables[index])
    return tables


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
