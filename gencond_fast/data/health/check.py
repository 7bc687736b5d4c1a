"""Images of a data set decoded once, on all cores: which cannot be, and which are unusual."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from gencond_fast.data.contract import Load, Split, Subset
from gencond_fast.data.health.badlist import BadEntry, BadList
from gencond_fast.data.health.examine import examine
from gencond_fast.data.readers.forked import forked, held, result, stopping
from gencond_fast.system.interrupt import Interrupts
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import named_rng

_AHEAD = 4  # pieces under way for each worker, so that none waits for work
_BLOCK = 16

Splits = dict[str, Split]


@dataclass(frozen=True)
class OddImage:
    """An image that can be decoded but is unusual.

    Attributes:
        where: names the image.
        kind: in what way it is unusual.
        seen: details, such as its size; empty where there are none.
    """

    where: str
    kind: str
    seen: str


@dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    Attributes:
        images: the number of images of each split that were read.
        bad: the images that cannot be read.
        odd: images that can be read and are unusual; an image comes once for each reason.
    """

    images: dict[str, int]
    bad: tuple[BadEntry, ...]
    odd: tuple[OddImage, ...]

    @property
    def bad_list(self) -> BadList:
        """The part that later runs need."""
        return BadList(sum(self.images.values()), self.bad)


def sample_of(splits: Splits, count: int, seed: int) -> Splits:
    """Random images of all splits together, `count` of them or all; the same ones for a seed."""
    lengths = [len(split) for split in splits.values()]
    order = torch.randperm(sum(lengths), generator=named_rng(seed, "check"))
    chosen = order[:count].sort().values.numpy()
    ends = np.cumsum(lengths)
    drawn: Splits = {}
    for (name, split), length, end in zip(splits.items(), lengths, ends, strict=True):
        first, last = np.searchsorted(chosen, [end - length, end])
        if last > first:
            drawn[name] = Subset(split, chosen[first:last] - (end - length))
    return drawn


def check(splits: Splits, *, workers: int, reporter: Reporter) -> CheckReport:
    """Reads and decodes all images in full, in worker processes.

    An image is readable if `decode` accepts it. It rejects, for example, a JPEG that is cut short.
    It cannot see damage that decoders conceal, such as flipped bits in the coded pixels. Containers
    of pixels are read to their end, and damage in them is an error.

    Args:
        splits: `train` and, where there is one, `val`, or a `sample_of` them. All of their images
            are read.
        workers: processes.
        reporter: told of progress.

    Raises:
        InputError: a container is damaged.
        RunError: a worker died, as it does when memory runs out.
        KeyboardInterrupt, Terminated: the check was interrupted.
    """
    images = {name: len(split) for name, split in splits.items()}
    bad: list[BadEntry] = []
    odd: list[OddImage] = []
    # a signal that arrives while a process is being made would be lost
    with reporter.phase("check", sum(images.values())) as progress, Interrupts() as interrupts:
        for count, found in _results(splits, workers):
            interrupts.raise_pending()
            bad += [image for image in found if isinstance(image, BadEntry)]
            odd += [image for image in found if isinstance(image, OddImage)]
            progress.advance(count, {"unreadable": len(bad)})
    return CheckReport(images, tuple(bad), tuple(odd))


_Found = tuple[int, list[BadEntry | OddImage]]


def _results(splits: Splits, workers: int) -> Iterator[_Found]:
    """The results of all pieces, in order; few pieces are under way at any time."""
    pending: deque[tuple[Future[_Found], str]] = deque()
    # forked workers share the labels and the file names, which would be long to send
    with forked(workers, splits) as pool:
        for name, first, last in _pieces(splits):
            place = f"images {first} to {last - 1} of {name}"
            pending.append((pool.submit(_piece, name, first, last), place))
            if len(pending) > _AHEAD * workers:
                yield _first(pending)
        while pending:
            yield _first(pending)


def _first(pending: deque[tuple[Future[_Found], str]]) -> _Found:
    future, place = pending.popleft()
    return result(future, place, "try fewer --workers")


def _pieces(splits: Splits) -> Iterator[tuple[str, int, int]]:
    for name, split in splits.items():
        edges = split.pieces().tolist()
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            yield name, start, stop


def _piece(name: str, first: int, last: int) -> _Found:
    split = held()[name]
    found: list[BadEntry | OddImage] = []
    index = first
    with closing(split.read(np.arange(first, last), _BLOCK)) as blocks:
        for block in blocks:
            if stopping():
                break
            for item in block:
                if not isinstance(item, np.ndarray):
                    found += _examined(split, name, index, item)
                index += 1
    return last - first, found


def _examined(split: Split, name: str, index: int, item: Load) -> list[BadEntry | OddImage]:
    where = split.where(index)
    seen = examine(item, where, split.file_name(index))
    if seen.reason is not None:
        row = int(split.origin(np.array([index]))[0])
        return [BadEntry(name, row, where, seen.reason)]
    return [OddImage(where, kind, value) for kind, value in seen.oddities]
