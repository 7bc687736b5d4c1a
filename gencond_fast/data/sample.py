"""A class-balanced random sample of a training split, small enough to be held in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gencond_fast.data.labels import refuse_empty_class, shuffled_rank
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.errors import InputError

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Sample:
    """Real images, class after class, in random order within each class.

    Attributes:
        images: uint8 [M, channels, S, S].
        labels: int64 [M], ascending.
    """

    images: torch.Tensor
    labels: torch.Tensor


def draw_sample(
    source: Source,
    *,
    image_size: int,
    per_class: int,
    max_bytes: int,
    seed: int,
    workers: int | None = None,
) -> Sample:
    """Draws and decodes the same number of training images of every class, without repetition.

    The same source, sizes and seed give the same sample. A class with fewer images gives all it
    has. With a smaller `per_class` or `max_bytes`, each class keeps the first of its images. Where
    the source skips undecodable images, the next images in the random order of the class take their
    places.

    Args:
        source: the data set. The images are read through `source.train`, so its cache is used.
        image_size: S, height and width.
        per_class: images wanted of each class, at least 1.
        max_bytes: the most that the images may take; where all that are wanted take more, fewer of
            each class are drawn.
        seed: chooses the images and their order.
        workers: as for `stream`.

    Raises:
        InputError: an image cannot be read, one image of each class exceeds `max_bytes`, or no
            image of a class can be decoded.
        ValueError: `per_class` is below 1.
    """
    labels = source.train.labels
    share = _share(source, image_size, per_class, max_bytes)
    order = np.lexsort((shuffled_rank(labels, seed), labels))
    chosen = wanted = _first(order, share, source.train)
    images = torch.empty((len(chosen), source.channels, image_size, image_size), dtype=torch.uint8)
    held = np.full(len(chosen), -1, dtype=np.int64)  # the row of the image at each place
    while len(wanted):  # once, unless some of them turn out to be bad
        places = np.flatnonzero(held < 0)[np.argsort(wanted)]
        rows = np.sort(wanted)
        for batch in stream(
            source.train,
            channels=source.channels,
            image_size=image_size,
            batch_size=_BATCH,
            indices=rows,
            workers=workers,
        ):
            found = batch.indices.numpy()
            place = places[np.searchsorted(rows, found)]
            images[torch.from_numpy(place)] = batch.images.cpu()
            held[place] = found
        chosen = _first(order, share, source.train)
        wanted = np.setdiff1d(chosen, held)
    counts = np.bincount(labels[chosen], minlength=len(source.class_names))
    refuse_empty_class(counts, source.class_names, source.location)
    if not np.array_equal(held, chosen):
        by_row = np.argsort(held)
        images = images[torch.from_numpy(by_row[np.searchsorted(held, chosen, sorter=by_row)])]
    return Sample(images, torch.from_numpy(labels[chosen]))


def sample_rows(
    source: Source, *, image_size: int, per_class: int, max_bytes: int, seed: int
) -> np.ndarray:
    """The rows that `draw_sample` decodes if it finds no undecodable image: ascending int64.

    Raises:
        InputError, ValueError: as `draw_sample`.
    """
    share = _share(source, image_size, per_class, max_bytes)
    labels = source.train.labels
    order = np.lexsort((shuffled_rank(labels, seed), labels))
    return np.sort(_first(order, share, source.train))


def _share(source: Source, image_size: int, per_class: int, max_bytes: int) -> int:
    """How many images of each class are drawn."""
    if per_class < 1:
        raise ValueError(f"per_class must be positive, not {per_class}")
    image_bytes = source.channels * image_size * image_size
    share = _affordable(np.bincount(source.train.labels), per_class, max_bytes // image_bytes)
    if share == 0:
        raise InputError(
            f"One image of each of {source.location}'s {len(source.class_names)} classes takes "
            f"{len(source.class_names) * image_bytes:,} bytes and {max_bytes:,} are allowed; "
            "allow more memory or choose a smaller image size."
        )
    return share


def _first(order: np.ndarray, share: int, images: ImageReader) -> np.ndarray:
    """The first `share` rows of each class in an order of classes, without those left out."""
    if images.skip is not None:
        order = order[~images.skip(order)]
    counts = np.bincount(images.labels[order])
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[within < share]


def _affordable(counts: np.ndarray, per_class: int, limit: int) -> int:
    """How many images of each class, at most `per_class`, are `limit` images or fewer in all."""
    low, high = 0, min(per_class, int(counts.max()))
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= limit:
            low = middle
        else:
            high = middle - 1
    return low
