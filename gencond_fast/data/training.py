"""`training_batches`: shuffled epochs over any number of images, few of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from gencond_fast.data.contract import Block, Load, Split
from gencond_fast.data.crop import RandomCrop
from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.readers.prefetch import ahead
from gencond_fast.data.sampling import Share, epoch_order, in_pools, share_of
from gencond_fast.data.skipping import BadImage
from gencond_fast.data.stream import at_hand, checked_workers, decoded

_POOL_BYTES = 256 * 1024**2  # of encoded images; one pool is used while the next one is read
_BLOCK = 64


def training_batches(
    images: ImageReader,
    *,
    channels: int,
    image_size: int,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    crop: bool | RandomCrop = False,
    balanced: bool = False,
    rank: int = 0,
    world: int = 1,
    workers: int | None = None,
) -> Generator[Batch, None, None]:
    """Yields one shuffled epoch, the same one for the same seed and epoch.

    For example, the first epoch of a training on ImageNet::

        train = open_source("/data/imagenet").train
        for batch in training_batches(
            train, channels=3, image_size=224, batch_size=256, seed=0, epoch=0, crop=True
        ):
            ...  # batch.images: uint8 [B, 3, 224, 224]; batch.done: where to go on

    Within a batch images are in ascending order of their rows.

    Several ranks: all ranks take the same number of steps, and the images of a step do not depend
    on the number of ranks. They are split among the ranks to within one image. Every step gives a
    batch on every rank, an empty one if none of its images falls to the rank or can be decoded.
    With one rank, a step without images gives no batch.

    How random the order is: where each image can be read by itself (folders, tar files, arrays in
    memory), any order is equally likely. Parquet and .npz files are read in stretches, such as row
    groups. Every epoch deals the stretches to pools of at least eight stretches (256 MiB of
    encoded images) at random and shuffles each pool. So images of one stretch are at most a pool
    apart, and data that fits into one pool comes in any order. Two pools are held at a time. Each
    rank reads all pools and holds its share of them. An .npz file is read from its start for each
    pool.

    To go on after an interruption, give the `done` of the last batch used as `start`. The images
    left, their order and their windows are the same, also with another `batch_size`, `workers` or
    `world`.

    Args:
        images: the images of a split, such as `open_source(...).train`.
        channels: 1 (gray) or 3 (RGB).
        image_size: S, height and width of the result.
        batch_size: images in a step of all ranks together; the last step may have fewer.
        seed: of the run.
        epoch: pass over the images, from 0; other epochs have another order and other windows.
        start: images of the epoch that all ranks together have done.
        crop: True resizes a window of random place, area and aspect ratio to the square, see
            `RandomCrop`; False resizes the largest centred square. A `RandomCrop` brings its own
            seed and epoch.
        balanced: True makes classes come equally often instead of images, see `epoch_order`. An
            image that comes several times in an epoch has the same window every time, and may come
            several times in a batch.
        rank: which of the ranks this is, 0 … world - 1.
        world: how many ranks share the epoch.
        workers: decoding threads or processes; None means one for each core of this process.

    Returns:
        An iterator of `Batch`; `done` counts the images of all ranks.

    Raises:
        InputError: while iterating, as `stream`.
        ValueError: at once, when an argument is out of range.
    """
    if crop is True:
        crop = RandomCrop(seed, epoch)
    form = Form(channels, image_size, crop or None)
    workers = checked_workers(form, batch_size, workers)
    if epoch < 0 or start < 0 or not 0 <= rank < world:
        raise ValueError(f"epoch {epoch}, start {start} or rank {rank} of {world} is out of range")
    order = epoch_order(images.labels, seed=seed, epoch=epoch, balanced=balanced)
    ends, split = np.array([len(order)]), images.split
    if split.serial_bytes is not None:
        largest = max(1, _POOL_BYTES // max(1, split.serial_bytes))
        order, ends = in_pools(order, split.pieces(), largest, seed=seed, epoch=epoch)
    share = share_of(len(order), batch_size, rank, world, start)
    wanted = _Wanted(order[share.places], share, np.unique(np.searchsorted(share.places, ends)))
    batches = _batches(images, form, wanted, workers, fill=world > 1)
    held = split.serial_bytes is None and at_hand(images, form, wanted.rows)
    return batches if held else ahead(batches)


@dataclass(frozen=True, eq=False)
class _Wanted:
    """The images of one rank in one epoch.

    Attributes:
        rows: int64 [m], in the order of the epoch.
        share: which of them are in which step.
        ends: int64, where the pools end in them.
    """

    rows: np.ndarray
    share: Share
    ends: np.ndarray


@dataclass(frozen=True, eq=False)
class _Step:
    """A step under way: its rows, how often each row comes, and what ends their reading."""

    part: Part
    repeats: np.ndarray
    end: Callable[[], None]


def _batches(
    images: ImageReader, form: Form, wanted: _Wanted, workers: int, fill: bool
) -> Generator[Batch, None, None]:
    """The batch of every step; without `fill`, only those with an image left."""
    waiting: deque[_Step] = deque()
    read = _read if images.split.serial_bytes is None else _read_in_pools
    with closing(read(images.split, wanted)) as steps:
        try:
            with closing(decoded(images, form, _noted(steps, waiting), workers)) as batches:
                for batch in batches:
                    yield from _empty(waiting, batch.done, form, fill)
                    step = waiting.popleft()
                    step.end()
                    yield _repeated(batch, step)
            yield from _empty(waiting, np.inf, form, fill)
        finally:
            for step in waiting:
                step.end()


def _noted(steps: Iterator[tuple[_Step, Block]], waiting: deque[_Step]) -> Pairs:
    """The images to decode. Adds every step to `waiting`, also those without an image."""
    for step, block in steps:
        waiting.append(step)
        if len(block):
            yield step.part, block


def _empty(waiting: deque[_Step], done: float, form: Form, fill: bool) -> Iterator[Batch]:
    """Ends the steps before `done`, which got no batch; with `fill` gives empty ones for them."""
    while waiting and waiting[0].part.done < done:
        step = waiting.popleft()
        step.end()
        if fill:
            none = torch.zeros(0, dtype=torch.int64)
            yield Batch(torch.from_numpy(form.empty(0)), none, none, step.part.done)


def _repeated(batch: Batch, step: _Step) -> Batch:
    """The batch with each image as often as it is wanted."""
    if (step.repeats == 1).all():
        return batch
    times = torch.from_numpy(step.repeats[np.isin(step.part.rows, batch.indices.numpy())])
    images, labels, indices = (
        tensor.repeat_interleave(times.to(tensor.device), dim=0)
        for tensor in (batch.images, batch.labels, batch.indices)
    )
    return Batch(images, labels, indices, batch.done)


def _parts(wanted: _Wanted) -> Iterator[tuple[Part, np.ndarray, int, int]]:
    """Every step: its rows, how often each row comes, and its start and stop in `wanted.rows`."""
    edges, done = wanted.share.edges.tolist(), wanted.share.done.tolist()
    for start, stop, behind in zip(edges[:-1], edges[1:], done, strict=True):
        rows, repeats = np.unique(wanted.rows[start:stop], return_counts=True)
        yield Part(rows, behind), repeats, start, stop


def _read(split: Split, wanted: _Wanted) -> Generator[tuple[_Step, Block], None, None]:
    """The steps and their images, with a read for each step."""
    for part, repeats, _, _ in _parts(wanted):
        if len(part.rows):
            read = split.read(part.rows, len(part.rows))
            yield _Step(part, repeats, read.close), next(read)
        else:
            yield _Step(part, repeats, _nothing), []


def _read_in_pools(split: Split, wanted: _Wanted) -> Generator[tuple[_Step, Block], None, None]:
    """The steps and their images, from pools of which the next one is read ahead."""
    held: dict[int, Any] = {}
    read = 0
    with closing(ahead(_pools(split, wanted), 1)) as pools:
        for part, repeats, start, stop in _parts(wanted):
            if read < stop:
                held = {row: held[row] for row in wanted.rows[start:read].tolist()}
            while read < stop:
                read, pool = next(pools)
                held |= pool
            items = [held[row] for row in part.rows.tolist()]
            arrays = split.shape is not None and len(items) > 0
            yield _Step(part, repeats, _nothing), np.stack(items) if arrays else items


def _pools(split: Split, wanted: _Wanted) -> Generator[tuple[int, dict[int, Any]], None, None]:
    """Where each pool stops in the wanted rows, and its images."""
    start = 0
    for stop in wanted.ends[wanted.ends > 0].tolist():
        rows = np.unique(wanted.rows[start:stop])
        items = (item for block in split.read(rows, _BLOCK) for item in block)
        yield stop, dict(zip(rows.tolist(), map(_detached, items), strict=True))
        start = stop


def _detached(item: Load | np.ndarray) -> Load | np.ndarray:
    """A load that holds the bytes of its image alone, where the one given may hold others' too."""
    if isinstance(item, np.ndarray):
        return item
    try:
        return partial(bytes, item())
    except BadImage as error:
        return partial(_refuse, error)


def _refuse(error: BadImage) -> bytes:
    raise error


def _nothing() -> None:
    pass
