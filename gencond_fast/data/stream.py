"""`stream`: batches of decoded images in ascending order, prepared a little ahead of their use."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from gencond_fast.data.readers.batch import Batch, Form, Pairs, batch_of, in_order, parts_of
from gencond_fast.data.readers.cached import needs_no_reading, read_through
from gencond_fast.data.readers.choice import reader_of
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.readers.prefetch import ahead
from gencond_fast.data.resize import with_channels
from gencond_fast.system.machine import own_cores


def stream(
    images: ImageReader,
    *,
    channels: int,
    image_size: int,
    batch_size: int,
    indices: np.ndarray | None = None,
    workers: int | None = None,
) -> Generator[Batch, None, None]:
    """Yields images in ascending order of their rows, and holds a few batches of them at any time.

    For example, the test images of a data set, in colour, at 32 x 32 pixels::

        val = open_source("cifar10/").val
        for batch in stream(val, channels=3, image_size=32, batch_size=256):
            ...  # batch.images: uint8 [B, 3, 32, 32]

    The shorter side is resized to `image_size` (bicubic, antialiased) and the centre is cropped.
    The pixels do not depend on `workers` or `batch_size`. Batches are made ahead of their use, see
    `ahead`. Threads and processes end with the iterator, also when it is closed or dropped early.
    Images that the cache of `images` holds in this form are not decoded again, and those that it
    has room for are added to it.

    Where `images` skips undecodable images, a batch has what is left of its `batch_size` images. It
    is not filled up, so that every other image stays in the same batch. A batch of which nothing is
    left does not appear.

    Args:
        images: the images of a split, such as `open_source(...).train`.
        channels: 1 (gray) or 3 (RGB).
        image_size: S, height and width of the result.
        batch_size: images in a batch; the last one may have fewer.
        indices: integer [n], the rows wanted, each once and in any order; None means all.
        workers: decoding threads or processes; None means one for each core of this process.

    Returns:
        An iterator of `Batch`.

    Raises:
        InputError: while iterating, when an image or its container cannot be read; `BadImage`
            for an image that cannot be decoded, unless `images` skips those.
        ValueError: at once, when an argument is out of range.
    """
    form = Form(channels, image_size)
    workers = checked_workers(form, batch_size, workers)
    rows = _ascending(indices, len(images))
    batches = _batches(images, form, rows, batch_size, workers)
    return batches if at_hand(images, form, rows) else ahead(batches)


def checked_workers(form: Form, batch_size: int, workers: int | None) -> int:
    """The number of workers; None means one for each core of this process.

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
    images: ImageReader, form: Form, rows: np.ndarray, batch_size: int, workers: int
) -> Generator[Batch, None, None]:
    with _pairs(images, form, rows, batch_size) as pairs:
        yield from decoded(images, form, pairs, workers)


def _pairs(
    images: ImageReader, form: Form, rows: np.ndarray, batch_size: int
) -> AbstractContextManager[Pairs]:
    if needs_no_reading(images, form, rows):
        return nullcontext((part, []) for part in parts_of(rows, batch_size))
    return in_order(images.split, rows, batch_size)


def at_hand(images: ImageReader, form: Form, rows: np.ndarray) -> bool:
    """Whether images are only copied from memory, which is faster than handing it to a thread."""
    if _needs_crop_alone(images, form):
        return images.split.serial_bytes is None
    return needs_no_reading(images, form, rows)


def decoded(
    images: ImageReader, form: Form, pairs: Pairs, workers: int
) -> Generator[Batch, None, None]:
    """The batches of pairs, from the cache of `images` or by its reader."""

    def decode(wanted: Pairs) -> Generator[Batch, None, None]:
        yield from reader_of(images)(images, form, wanted, workers)

    cache = images.cache_for(form)
    if _needs_crop_alone(images, form):
        yield from _cropped(images, form, pairs)
    elif cache is not None:
        yield from read_through(images, cache, pairs, decode)
    else:
        yield from decode(pairs)


def _needs_crop_alone(images: ImageReader, form: Form) -> bool:
    """Whether images are stored as pixels, and cropping them is all that their form needs."""
    return images.shape is not None and form.crop is None and min(images.shape[:2]) == form.size


def _cropped(images: ImageReader, form: Form, pairs: Pairs) -> Iterator[Batch]:
    """The batches of images that need to be cropped alone."""
    for part, block in pairs:
        assert isinstance(block, np.ndarray)
        top = (block.shape[1] - form.size) // 2
        left = (block.shape[2] - form.size) // 2
        square = block[:, top : top + form.size, left : left + form.size]
        pixels = form.empty(len(block))
        pixels[...] = with_channels(square, form.channels).transpose(0, 3, 1, 2)
        none_bad = np.zeros(len(block), bool)
        yield from batch_of(images.labels, part, torch.from_numpy(pixels), none_bad)
