"""Every image of a data set decoded once, on all cores: which cannot be, and which are unusual."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.synchronize import Event

import numpy as np

from gencond_fast.data.badlist import BadEntry, BadList
from gencond_fast.data.contract import Load, Split
from gencond_fast.data.examine import examine
from gencond_fast.errors import RunError
from gencond_fast.interrupt import Interrupts
from gencond_fast.progress import Reporter

_AHEAD = 4  # pieces a worker, so that none waits for work
_BLOCK = 16

Splits = dict[str, Split]


@dataclass(frozen=True)
class OddImage:
    """An image that can be decoded but is unusual: its name, in what, and what was seen."""

    where: str
    kind: str
    seen: str


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        images: how many of each split were read.
        bad: the images that cannot be read.
        odd: the images that can, and are unusual; one may stand here for several reasons.
    """

    images: dict[str, int]
    bad: tuple[BadEntry, ...]
    odd: tuple[OddImage, ...]

    @property
    def bad_list(self) -> BadList:
        """What later runs need of it."""
        return BadList(sum(self.images.values()), self.bad)


def check(splits: Splits, *, workers: int, reporter: Reporter) -> CheckReport:
    """Reads and decodes all images in full, in processes of their own.

    What counts as readable is what `decode` accepts: a JPEG that is cut short does not. Damage
    that a decoder conceals, such as flipped bits within its data, cannot be seen. Containers of
    pixels are read through, and their damage is an error as for any reader.

    Args:
        splits: by `train` and `val`; images that they would skip are read all the same.
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
    with reporter.task("check", sum(images.values())) as progress, Interrupts() as interrupts:
        for count, found in _results(splits, workers):
            interrupts.raise_pending()
            for each in found:
                bad.append(each) if isinstance(each, BadEntry) else odd.append(each)
            progress.advance(count, {"unreadable": len(bad)})
    return CheckReport(images, tuple(bad), tuple(odd))


_Found = tuple[int, list[BadEntry | OddImage]]


def _results(splits: Splits, workers: int) -> Iterator[_Found]:
    """What each piece holds, in order; few pieces are under way at any time."""
    # forked workers share the labels and the file names, which would be long to send
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(splits, stop, os.getpid())
    )
    pending: deque[tuple[Future[_Found], str]] = deque()
    try:
        for name, first, last in _pieces(splits):
            place = f"images {first} to {last - 1} of {name}"
            pending.append((pool.submit(_piece, name, first, last), place))
            if len(pending) > _AHEAD * workers:
                yield _result(*pending.popleft())
        while pending:
            yield _result(*pending.popleft())
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _pieces(splits: Splits) -> Iterator[tuple[str, int, int]]:
    for name, split in splits.items():
        edges = split.pieces().tolist()
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            yield name, start, stop


def _result(future: Future[_Found], place: str) -> _Found:
    try:
        return future.result()
    except (BrokenProcessPool, MemoryError):
        raise RunError(
            f"decoding {place} or the images after them ended a process; memory may have run out: "
            "try fewer --workers"
        ) from None


@dataclass
class _Worker:
    """What a worker knows."""

    splits: Splits
    stop: Event


_worker: _Worker


def _begin(splits: Splits, stop: Event, parent: int) -> None:
    """What a worker does first."""
    global _worker
    _worker = _Worker(splits, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """Ends a worker whose parent was killed and so could not end it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _piece(name: str, first: int, last: int) -> _Found:
    split = _worker.splits[name]
    found: list[BadEntry | OddImage] = []
    index = first
    with closing(split.read(np.arange(first, last), _BLOCK)) as blocks:
        for block in blocks:
            if _worker.stop.is_set():
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
