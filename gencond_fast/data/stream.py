"""Batches of decoded images in ascending order, prepared by threads a little ahead of their use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from gencond_fast.data.contract import Block, Load, Split
from gencond_fast.data.decode import decode, fetch
from gencond_fast.data.resize import fit_array, with_channels
from gencond_fast.data.skipping import BadImage

_BATCHES_AHEAD = 2
_TASKS_PER_WORKER = 2


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one split and where they stand in it.

    Attributes:
        images: uint8 [B, channels, S, S], contiguous.
        labels: int64 [B].
        indices: int64 [B], ascending.
        done: how many of the images wanted are behind the reader once this batch is used, those
            left out included: where to go on after an interruption.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    done: int


def stream(
    split: Split,
    *,
    channels: int,
    image_size: int,
    batch_size: int,
    indices: np.ndarray | None = None,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Yields a split in ascending order, holding a few batches of it at any time.

    The shorter side is resized to `image_size` (bicubic, antialiased) and the centre is cropped.
    The images are the same for any `workers` and `batch_size`. Threads end with the iterator,
    also when it is closed or dropped early.

    Where the split skips bad images, a batch is what is left of its `batch_size` images: shorter,
    and not filled up, so that the others are in the same batches whether an image is bad or not.
    A batch of which nothing is left does not appear.

    Args:
        split: the images.
        channels: 1 or 3.
        image_size: S, height and width of the result.
        batch_size: images in a batch; the last one may have fewer.
        indices: integer [n], the images wanted, each once and in any order; None means all.
        workers: decoding threads; None means one per available CPU core.

    Returns:
        An iterator of `Batch`.

    Raises:
        InputError: while iterating, when an image or its container cannot be read; `BadImage`
            for an image that cannot be decoded, unless the split skips those.
        ValueError: at once, when an argument is out of range.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    if image_size < 1 or batch_size < 1:
        raise ValueError(f"image_size {image_size} and batch_size {batch_size} must be positive")
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be positive, not {workers}")
    order = _ascending(indices, len(split))
    return _batches(split, _Target(channels, image_size), order, batch_size, workers)


@dataclass(frozen=True)
class _Target:
    """The form every image is brought into."""

    channels: int
    size: int

    def empty(self, count: int) -> np.ndarray:
        return np.empty((count, self.channels, self.size, self.size), dtype=np.uint8)


def _ascending(indices: np.ndarray | None, length: int) -> np.ndarray:
    if indices is None:
        return np.arange(length)
    order = np.sort(np.asarray(indices, dtype=np.int64))
    if len(order) and (order[0] < 0 or order[-1] >= length):
        raise ValueError(f"indices {order[0]} … {order[-1]} are not within 0 … {length - 1}")
    if (np.diff(order) == 0).any():
        raise ValueError("indices must not repeat")
    return order


def _batches(
    split: Split, target: _Target, order: np.ndarray, batch_size: int, workers: int
) -> Iterator[Batch]:
    parts = (order[at : at + batch_size] for at in range(0, len(order), batch_size))
    with closing(split.read(order, batch_size)) as blocks:
        # Never asks for more than there is: at its end a read closes the files of its loads.
        pairs = ((part, next(blocks)) for part in parts)
        if _ready(split.shape, target.size):
            done = 0
            for part, block in pairs:
                assert isinstance(block, np.ndarray)
                done += len(part)
                yield _batch(split, part, _crop(block, target), done)
        else:
            yield from _decoded(split, target, pairs, workers)


def _decoded(
    split: Split, target: _Target, pairs: Iterator[tuple[np.ndarray, Block]], workers: int
) -> Iterator[Batch]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gencond-decode")
    pending: deque[_Pending] = deque()
    done = 0
    try:
        for part, block in pairs:
            done += len(part)
            pending.append(_Pending(pool, split, target, part, block, workers, done))
            if len(pending) > _BATCHES_AHEAD:
                yield from pending.popleft().wait()
        while pending:
            yield from pending.popleft().wait()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Pending:
    """A batch that the pool is filling."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        split: Split,
        target: _Target,
        part: np.ndarray,
        block: Block,
        workers: int,
        done: int,
    ) -> None:
        self._split = split
        self._part = part
        self._done = done
        self._images = target.empty(len(part))
        skipping = split.skipping
        self._bad = np.zeros(len(part), dtype=bool) if skipping is None else skipping(part)
        step = -(-len(part) // (_TASKS_PER_WORKER * workers))
        self._tasks: list[Future[list[tuple[int, BadImage]]]] = [
            pool.submit(self._fill, block[at : at + step], at, target)
            for at in range(0, len(part), step)
        ]

    def _fill(self, block: Block, start: int, target: _Target) -> list[tuple[int, BadImage]]:
        """Decodes some of the images, and gives back the places of those it could not."""
        met = []
        for place, item in enumerate(block, start):
            if self._bad[place]:
                continue
            try:
                self._images[place] = _pixels(item, self._split, int(self._part[place]), target)
            except BadImage as error:
                if self._split.skipping is None:
                    raise
                met.append((place, error))
        return met

    def wait(self) -> Iterator[Batch]:
        """The batch, or nothing where all of it is left out."""
        for task in self._tasks:
            for place, error in task.result():
                assert self._split.skipping is not None
                self._split.skipping.meet(int(self._part[place]), error)
                self._bad[place] = True
        part, images = self._part, self._images
        if self._bad.any():
            part, images = part[~self._bad], images[~self._bad]
        if len(part):
            yield _batch(self._split, part, images, self._done)


def _pixels(item: Load | np.ndarray, split: Split, index: int, target: _Target) -> np.ndarray:
    """One image in its final form, uint8 [channels, S, S]."""
    if isinstance(item, np.ndarray):
        pixels = fit_array(with_channels(item, target.channels), target.size)
    else:
        where = split.where(index)
        data = fetch(item, where)
        pixels = decode(data, channels=target.channels, where=where, image_size=target.size)
    return pixels.transpose(2, 0, 1)


def _ready(shape: tuple[int, int, int] | None, size: int) -> bool:
    """Whether every image is an array that a crop alone brings to the target size."""
    return shape is not None and min(shape[:2]) == size


def _crop(block: np.ndarray, target: _Target) -> np.ndarray:
    top = (block.shape[1] - target.size) // 2
    left = (block.shape[2] - target.size) // 2
    square = block[:, top : top + target.size, left : left + target.size]
    out = target.empty(len(block))
    out[...] = with_channels(square, target.channels).transpose(0, 3, 1, 2)
    return out


def _batch(split: Split, part: np.ndarray, images: np.ndarray, done: int) -> Batch:
    return Batch(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(split.labels[part]),
        indices=torch.from_numpy(part.copy()),
        done=done,
    )
