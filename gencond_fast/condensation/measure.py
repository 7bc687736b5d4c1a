"""One pass over the real images that gives the tables of many networks at once.

Decoding is paid once for all networks and augmentations. An interrupted pass goes on where it last
saved, and gives the same bits as one that was not interrupted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Setting, Task
from gencond_fast.data.augment import Augmentation, augment
from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.labels import refuse_empty_class, shuffled_rank
from gencond_fast.data.readers.batch import Batch
from gencond_fast.data.stream import stream
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.functional.characteristic import waves
from gencond_fast.functional.moments import ClassMoments
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.cache import load_tensors, save_tensors
from gencond_fast.system.interrupt import Interrupts
from gencond_fast.system.upload import upload
from gencond_fast.system.words import counted

_BATCH = 256
_SAVE_EVERY = 60.0  # seconds of work that being killed may rate
_SAVE_SHARE = 0.05  # of the time of a pass that goes into saving, where tables are large


@dataclass(frozen=True, eq=False)
class Wanted:
    """A table to measure: moments of columns made of the features of one network.

    Attributes:
        path: the file that it goes to.
        network: the index of the network.
        transforms: its A augmentations.
        frequencies: [K, D]; the columns are the waves at them, or the features where it is None.
    """

    path: Path
    network: int
    transforms: list[Augmentation]
    frequencies: Tensor | None = None

    def columns(self, features: Tensor) -> Tensor:
        """Columns [B, W] of features [B, D]."""
        return features if self.frequencies is None else waves(features, self.frequencies)

    def width(self, feature_dim: int) -> int:
        """W."""
        return feature_dim if self.frequencies is None else 2 * len(self.frequencies)

    def content(self, table: list[ClassMoments]) -> dict[str, Tensor]:
        """The tensors of the file, of the moments under each augmentation."""
        count, mean = table[0].count, torch.stack([each.mean for each in table])
        if self.frequencies is None:
            return {"count": count, "mean": mean, "m2": torch.stack([each.m2 for each in table])}
        real, imaginary = mean.chunk(2, 2)
        return {"frequencies": self.frequencies, "real": real, "imaginary": imaginary}


def measure_tables(
    task: Task, networks: FeatureNetworks, wanted: list[Wanted], partial: Path, ranks: Ranks
) -> None:
    """Measures tables in one pass, and puts each into its file.

    Images are dealt out to the ranks, their tables merged in the order of ranks: for one number
    of ranks the result has the same bits, for another one it is the same to rounding.

    Memory: the tables and a few batches, whatever the number of images.

    Args:
        task: the data and the machine.
        networks: the feature networks.
        wanted: what to measure, the tables of one network side by side.
        partial: where this rank saves what it has. It stays, for whoever has met the other ranks
            to remove.
        ranks: those that share the work. The first one writes the files.

    Raises:
        InputError: an image cannot be read, or no measured image of a class can be decoded.
        OSError: a table or a partial result cannot be written.
        KeyboardInterrupt, Terminated: asked to stop; what was measured is saved.
    """
    tables = [_empty(task, networks, each) for each in wanted]
    _tell_size(task, wanted, tables, ranks)
    _fill(task, networks, wanted, tables, _Partial(partial, wanted, tables), ranks)
    for each, table in zip(wanted, tables, strict=True):
        merged = [_merged(part, ranks) for part in _parts(table, task.num_classes)]
        if ranks.is_main:
            count = merged[0].count.cpu().numpy()  # fewer than chosen where some are left out
            refuse_empty_class(count, task.source.class_names, task.source.location)
            save_tensors(each.path, each.content(merged))


def chosen_images(task: Setting) -> np.ndarray:
    """Rows of the training split behind the tables: all, or the same number of each class."""
    labels = task.source.train.labels
    limit = task.config.networks.real_per_class
    if limit is None:
        return np.arange(len(labels))
    return np.flatnonzero(shuffled_rank(labels, task.config.seed) < limit)


def _empty(task: Task, networks: FeatureNetworks, wanted: Wanted) -> ClassMoments:
    """A table of A * C rows: class c under augmentation a is row a * C + c."""
    rows = len(wanted.transforms) * task.num_classes
    width = wanted.width(networks.feature_dim(wanted.network))
    return ClassMoments.zeros(rows, width, device=task.runtime.device)


def _tell_size(task: Task, wanted: list[Wanted], tables: list[ClassMoments], ranks: Ranks) -> None:
    size = sum(value.nbytes for table in tables for value in vars(table).values())
    shared = f", on {ranks.world_size} ranks" if ranks.world_size > 1 else ""
    task.reporter.message(
        f"measuring {counted(len(chosen_images(task)), 'image')} under "
        f"{len({each.network for each in wanted})} networks x {len(wanted[0].transforms)} "
        f"augmentations: tables of {format_bytes(size)}{shared}"
    )


def _fill(
    task: Task,
    networks: FeatureNetworks,
    wanted: list[Wanted],
    tables: list[ClassMoments],
    partial: _Partial,
    ranks: Ranks,
) -> None:
    """Adds the images of this rank to its tables, in place, from where it last saved."""
    rows = ranks.share(chosen_images(task))
    start = done = partial.load()
    batches = stream(
        task.source.train,
        channels=task.source.channels,
        image_size=task.image_size,
        batch_size=_BATCH,
        indices=rows[start:],
    )
    waiting = DataTimer()
    with (
        Interrupts() as interrupts,
        task.reporter.phase("real statistics", len(rows), start) as progress,
        torch.no_grad(),
    ):
        for batch in waiting.around(batches):
            _add(task, networks, wanted, tables, batch)
            step = start + batch.done - done  # with the images that were left out
            done += step
            if interrupts.pending or partial.due():
                partial.save(done)
            interrupts.raise_pending()
            ranks.check_failures()
            progress.advance(step)
    waiting.tell(task.reporter.message)
    if ranks.world_size > 1:  # the others may need long, and any of them may be killed
        partial.save(done)


def _add(
    task: Task,
    networks: FeatureNetworks,
    wanted: list[Wanted],
    tables: list[ClassMoments],
    batch: Batch,
) -> None:
    images = task.normalisation(upload(batch.images, task.runtime.device))
    labels = upload(batch.labels, task.runtime.device)
    pairs = zip(wanted, tables, strict=True)
    for network, group in groupby(pairs, key=lambda pair: pair[0].network):
        networks.select(network)
        same = list(group)
        for place, transform in enumerate(same[0][0].transforms):
            features = networks.features(augment(images, transform))
            rows = labels + place * task.num_classes
            for each, table in same:
                table.update_(each.columns(features), rows)


def _parts(table: ClassMoments, num_classes: int) -> list[ClassMoments]:
    """The table under each augmentation."""
    parts = (value.split(num_classes) for value in vars(table).values())
    return [ClassMoments(*part) for part in zip(*parts, strict=True)]


def _merged(table: ClassMoments, ranks: Ranks) -> ClassMoments:
    """The tables of all ranks together, in their order; meaningful on the first one."""
    columns = [ranks.gather(value) for value in vars(table).values()]
    merged, *rest = [ClassMoments(*each) for each in zip(*columns, strict=True)] or [table]
    for other in rest:
        merged = merged.merge(other)
    return merged


class _Partial:
    """The file that tables under way are saved to: often, but not so that it takes much time."""

    def __init__(self, path: Path, wanted: list[Wanted], tables: list[ClassMoments]) -> None:
        self._path = path
        self._values = {
            f"{each.path.stem} {name}": value
            for each, table in zip(wanted, tables, strict=True)
            for name, value in vars(table).items()
        }
        self._saved = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        pause = max(_SAVE_EVERY, self._cost / _SAVE_SHARE)
        return time.monotonic() - self._saved > pause

    def save(self, done: int) -> None:
        start = time.monotonic()
        save_tensors(self._path, {"done": torch.tensor(done), **self._values})
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def load(self) -> int:
        """Fills the tables with what was saved, and returns how many images that is.

        The file may hold more: tables that were finished before the job was killed.
        """
        saved = load_tensors(self._path)
        if saved is None or not self._values.keys() <= saved.keys():
            return 0
        for name, value in self._values.items():
            value.copy_(saved[name])
        return int(saved["done"])
