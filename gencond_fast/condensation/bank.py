"""The statistics bank: what the real data looks like to every feature network, as a table.

For each network a finite set of augmentations is drawn once, and the class moments of the
augmented real images are stored under (network, augmentation), and where a discrepancy needs it
their characteristic function. The generated batch is later augmented with the same parameters, so
the real side of a step is a look-up.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from gencond_fast.condensation.frequencies import draw_frequencies, estimate_spread
from gencond_fast.condensation.measure import Wanted, chosen_images, measure_tables
from gencond_fast.condensation.networks import (
    FeatureNetworks,
    NetworkPlan,
    network_key,
    plan_networks,
)
from gencond_fast.condensation.task import Setting, Task
from gencond_fast.data.augment import Augmentation, draw_augmentation
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.cache_policy import CachePolicy
from gencond_fast.data.sample import sample_rows
from gencond_fast.discrepancy import Real, required
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.functional.characteristic import Characteristic
from gencond_fast.functional.moments import ClassMoments
from gencond_fast.system.cache import cache_directory, cache_key, exclusive, is_whole
from gencond_fast.system.rng import named_rng

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
        waves: the characteristic function of the scaled features, its values [A, C, K] float32;
            None where no discrepancy needs it.
    """

    augmentations: list[Augmentation]
    count: Tensor
    mean: Tensor
    m2: Tensor
    scale: Tensor
    centre: Tensor
    waves: Characteristic | None = None

    def real(self, augmentation: int, classes: Tensor) -> Real:
        """All that is known of the given classes [C'] under one augmentation."""
        return Real(self.moments(augmentation, classes), self.characteristic(augmentation, classes))

    def scaled(self, features: Tensor, augmentation: int) -> Tensor:
        """Features [B, D] of the network as those behind the table under one augmentation."""
        return features / self.scale

    def moments(self, augmentation: int, classes: Tensor) -> ClassMoments:
        """Moments of the given classes [C'] under one augmentation."""
        return ClassMoments(
            self.count[classes], self.mean[augmentation, classes], self.m2[augmentation, classes]
        )

    def characteristic(self, augmentation: int, classes: Tensor) -> Characteristic | None:
        """The characteristic function of the given classes [C'] under one augmentation."""
        if self.waves is None:
            return None
        parts = (self.waves.real, self.waves.imaginary)
        return Characteristic(
            self.waves.frequencies, *(part[augmentation, classes] for part in parts)
        )


@dataclass(frozen=True)
class Bank:
    """Where the tables of all networks are.

    Attributes:
        moments: a file of each network.
        waves: a file of each network; none where no discrepancy needs them.
        measured: how many of the files were made by the call that gave this.
    """

    moments: list[Path]
    waves: list[Path]
    measured: int

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return self.moments + self.waves


def with_image_cache(setting: Setting, ranks: Ranks | None = None) -> Setting:
    """The setting with a cache for the images that both the sample and the statistics read.

    Draw the sample from the setting that this returns, and measure the bank with the task that
    this gives::

        task = open_task(with_image_cache(setting, ranks))
        bank = fill_bank(task, networks, ranks)
        task.source.train.release_cache()

    Then these images are decoded once. Without the cache they are decoded twice, to the same
    pixels.

    Returns:
        `setting` itself where there is nothing to cache: all tables are measured already, or
        `in_memory` or the free memory forbid it.

    Raises:
        InputError: `in_memory` is `on` and there is too little memory.
    """
    if all(
        is_whole(path) for path in _files(setting, plan_networks(setting.config.networks)).paths
    ):
        return setting
    source, options = setting.source, setting.config
    measured = (ranks or Ranks()).share(chosen_images(setting))
    rows = np.intersect1d(sample_rows(source, **setting.sample_options), measured)
    policy = CachePolicy(options.in_memory, setting.reporter.message)
    form = Form(source.channels, setting.image_size)
    train = policy.keep(source.train, form, rows, "training images")
    return replace(setting, source=replace(source, train=train))


def build_bank(
    task: Task, networks: FeatureNetworks, ranks: Ranks | None = None
) -> list[BankEntry]:
    """One pass over the real training images for all networks, or their tables from the cache.

    Memory: the tables and one batch, whatever the number of images.

    Args:
        task: the data and the machine.
        networks: the feature networks.
        ranks: those that share the pass, all of which get the tables; None for one alone.

    Raises:
        InputError: an image cannot be read.
        OSError: the cache cannot be written or read.
    """
    return load_bank(task, networks, fill_bank(task, networks, ranks))


def load_bank(task: Task, networks: FeatureNetworks, bank: Bank) -> list[BankEntry]:
    """Reads the tables of a bank, one entry a network.

    Raises:
        OSError: the cache cannot be read.
    """
    entries = []
    for place, plan in enumerate(networks.plans):
        moments = _read(bank.moments[place], task)
        waves = _read(bank.waves[place], task) if bank.waves else None
        entries.append(_scaled(moments, waves, draw_augmentations(task, plan.index)))
    return entries


def fill_bank(task: Task, networks: FeatureNetworks, ranks: Ranks | None = None) -> Bank:
    """Measures the tables that the cache has not got yet, in one pass for all of them.

    Of several jobs that want the same tables one makes them, and the others wait for it. On
    return the tables are in the cache, whichever rank asks.

    Args:
        task: the data and the machine.
        networks: the feature networks.
        ranks: those that share the work, all of which call this; None for one alone.

    Raises:
        InputError: an image cannot be read.
        OSError: the cache cannot be written.
    """
    ranks = ranks or Ranks()
    bank = _files(task, networks.plans)
    measured = 0
    if not ranks.broadcast_object(all(is_whole(path) for path in bank.paths)):
        key = cache_key(kind="pass", tables=[path.stem for path in bank.paths])
        together = bank.paths[0].with_name(key)
        locked = exclusive(together, lambda: task.reporter.message(_WAITING))
        with locked if ranks.is_main else nullcontext():
            measured = _measure_missing(task, networks, bank, together, ranks)
    return Bank(bank.moments, bank.waves, measured)


def _files(task: Setting, plans: list[NetworkPlan]) -> Bank:
    """Where the cache keeps, or will keep, the tables of each network."""
    options = task.config.networks
    directory = cache_directory("statistics")
    discrepancies = required(task.config.losses.discrepancies)
    needed = any(each.needs_characteristic for each in discrepancies)

    def path(plan: NetworkPlan, **kind: object) -> Path:
        key = cache_key(
            network=network_key(task, plan),
            augmentations=[
                (t.operation, t.draws.tolist()) for t in draw_augmentations(task, plan.index)
            ],
            images_per_class=options.real_per_class,
            **kind,
        )
        return directory / f"{key}.safetensors"

    waves = {"kind": "waves", "number": options.frequencies, "scale": options.frequency_scale}
    return Bank(
        [path(plan, kind="moments") for plan in plans],
        [path(plan, **waves) for plan in plans] if needed else [],
        measured=0,
    )


def _measure_missing(
    task: Task, networks: FeatureNetworks, bank: Bank, together: Path, ranks: Ranks
) -> int:
    """Measures what the first rank does not find, and returns how many tables that was."""
    missing = set(ranks.broadcast_object([path.name for path in bank.paths if not is_whole(path)]))
    # one rank estimates, so that all of them measure at the very same frequencies
    places = range(len(bank.waves)) if missing and ranks.is_main else ()
    spreads = ranks.broadcast_object([estimate_spread(task, networks, place) for place in places])
    wanted: list[Wanted] = []
    for place, plan in enumerate(networks.plans):
        transforms = draw_augmentations(task, plan.index)
        if bank.moments[place].name in missing:
            wanted.append(Wanted(bank.moments[place], place, transforms))
        if bank.waves and bank.waves[place].name in missing:
            frequencies = draw_frequencies(task, networks, place, spreads[place])
            wanted.append(Wanted(bank.waves[place], place, transforms, frequencies))
    if wanted:
        share = (ranks.rank, ranks.world_size)
        key = cache_key(tables=together.name, spreads=spreads, share=share)
        partial = together.with_name(f"{together.name}.{key}.partial")
        measure_tables(task, networks, wanted, partial, ranks)
    ranks.barrier()
    if ranks.is_main:  # also what another number of ranks has left
        for left in together.parent.glob(f"{together.name}.*.partial"):
            left.unlink(missing_ok=True)
    return len(wanted)


def draw_augmentations(task: Setting, network: int) -> list[Augmentation]:
    """The identity, then the operations in turn, each with parameters shared by the batch."""
    options = task.config.networks
    names = ("identity", *options.augmentation)
    device = str(task.runtime.device)
    return [
        draw_augmentation(
            names[place % len(names)],
            named_rng(task.config.seed, "augmentation", network, place),
            device=device,
        )
        for place in range(options.num_augmentations)
    ]


def _read(path: Path, task: Task) -> dict[str, Tensor]:
    return load_file(path, device=str(task.runtime.device))


def _scaled(
    tensors: dict[str, Tensor], waves: dict[str, Tensor] | None, augmentations: list[Augmentation]
) -> BankEntry:
    count = tensors["count"]
    variance = tensors["m2"][0].sum() / count.sum().clamp(min=1)
    scale = torch.where(variance > 0, variance, 1.0).sqrt()
    mean = tensors["mean"] / scale
    centre = mean[:, count > 0].mean(1)
    function = None
    if waves is not None:
        # t.f = (scale t).(f / scale): the same values, at other frequencies of other features
        frequencies = waves["frequencies"] * scale
        function = Characteristic(frequencies, waves["real"], waves["imaginary"])
    m2 = tensors["m2"] / scale.square()
    return BankEntry(augmentations, count, mean, m2, scale, centre, function)
