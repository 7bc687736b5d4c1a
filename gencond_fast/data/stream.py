"""Batches of decoded images in ascending order, prepared a little ahead of their use."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from gencond_fast.data.contract import Split
from gencond_fast.data.readers.batch import Batch, Form, Pairs, batch_of, in_order, parts_of
from gencond_fast.data.readers.choice import reader_of
from gencond_fast.data.readers.image_cache import joined, needs_no_reading
from gencond_fast.data.readers.prefetch import ahead
from gencond_fast.data.resize import with_channels
from gencond_fast.system.machine import own_cores


def stream(
    split: Split,
    *,
    channels: int,
    image_size: int,
    batch_size: int,
    indices: np.ndarray | None = None,
    workers: int | None = None,
) -> Generator[Batch, None, None]:
    """Yields a split in ascending order, holding a few batches of it at any time.

    The shorter side is resized to `image_size` (bicubic, antialiased) and the centre is cropped.
    The images are the same for any `workers` and `batch_size`. Batches are decoded and put together
    ahead of their use, see `ahead`. Threads and processes end with the iterator, also when it is
    closed or dropped early. What `split.kept` holds in this form is not decoded again, and what it
    is to hold is given to it.

    Where the split skips bad images, a batch is what is left of its `batch_size` images: shorter,
    and not filled up, so that the others are in the same batches whether an image is bad or not.
    A batch of which nothing is left does not appear.

    Args:
        split: the images.
        channels: 1 or 3.
        image_size: S, height and width of the result.
        batch_size: images in a batch; the last one may have fewer.
        indices: integer [n], the images wanted, each once and in any order; None means all.
        workers: decoding threads or processes; None means one for each core that falls to this
            process.

    Returns:
        An iterator of `Batch`.

    Raises:
        InputError: while iterating, when an image or its container cannot be read; `BadImage`
            for an image that cannot be decoded, unless the split skips those.
        ValueError: at once, when an argument is out of range.
    """
    form = Form(channels, image_size)
    workers = checked_workers(form, batch_size, workers)
    rows = _ascending(indices, len(split))
    batches = _batches(split, form, rows, batch_size, workers)
    return batches if at_hand(split, form, rows) else ahead(batches)


def checked_workers(form: Form, batch_size: int, workers: int | None) -> int:
    """The number of workers, one for each core that falls to this process where that is None.

    Raises:
        ValueError: it, the form or the batch size is out of range.
    """
    if form.channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, not {form.channels}")
    if form.size < 1 or batch_size < 1:
        raise ValueError(f"image_size {form.size} and batch_size {batch_size} must be positive")
    workers = own_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be positive, not {workers}")
    return workers


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
    split: Split, form: Form, rows: np.ndarray, batch_size: int, workers: int
) -> Generator[Batch, None, None]:
    with _pairs(split, form, rows, batch_size) as pairs:
        yield from decoded(split, form, pairs, workers)


def _pairs(
    split: Split, form: Form, rows: np.ndarray, batch_size: int
) -> AbstractContextManager[Pairs]:
    if needs_no_reading(split, form, rows):
        return nullcontext((part, []) for part in parts_of(rows, batch_size))
    return in_order(split, rows, batch_size)


def at_hand(split: Split, form: Form, rows: np.ndarray) -> bool:
    """Whether images are copied out of memory and that is all: faster than a thread is told."""
    if _crops_alone(split, form):
        return split.serial_bytes is None
    return needs_no_reading(split, form, rows)


def decoded(split: Split, form: Form, pairs: Pairs, workers: int) -> Generator[Batch, None, None]:
    """The batches of pairs, by the reader that suits the split, or from what it keeps."""

    def read(some: Pairs) -> Generator[Batch, None, None]:
        yield from reader_of(split)(split, form, some, workers)

    if _crops_alone(split, form):
        yield from _cropped(split, form, pairs)
    elif split.kept is not None and split.kept.form == form:
        yield from joined(split, split.kept, pairs, read)
    else:
        yield from read(pairs)


def _crops_alone(split: Split, form: Form) -> bool:
    """Whether images are arrays that a crop alone brings to their form."""
    return split.shape is not None and form.crop is None and min(split.shape[:2]) == form.size


def _cropped(split: Split, form: Form, pairs: Pairs) -> Iterator[Batch]:
    """Those images, see `_crops_alone`."""
    for part, block in pairs:
        assert isinstance(block, np.ndarray)
        top = (block.shape[1] - form.size) // 2
        left = (block.shape[2] - form.size) // 2
        square = block[:, top : top + form.size, left : left + form.size]
        images = form.empty(len(block))
        images[...] = with_channels(square, form.channels).transpose(0, 3, 1, 2)
        yield from batch_of(split, part, torch.from_numpy(images), np.zeros(len(block), bool))
