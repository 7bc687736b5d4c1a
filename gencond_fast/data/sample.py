"""A class-balanced random part of a training split, small enough to be held in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gencond_fast.data.labels import shuffled_rank
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
    """Draws the same number of training images of every class, decoded, without repetition.

    The same source, sizes and seed give the same sample. A class with fewer images gives all it
    has. A smaller `per_class` or `max_bytes` keeps the first images of each class.

    Args:
        source: where the images come from.
        image_size: S, height and width.
        per_class: images wanted of each class, at least 1.
        max_bytes: the most that `images` may take; fewer of each class are drawn to keep to it.
        seed: chooses images and their order.
        workers: decoding threads, as for `stream`.

    Raises:
        InputError: an image cannot be read, or one image of each class exceeds `max_bytes`.
        ValueError: `per_class` is below 1.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be positive, not {per_class}")
    labels = source.train.labels
    image_bytes = source.channels * image_size * image_size
    share = _affordable(np.bincount(labels), per_class, max_bytes // image_bytes)
    if share == 0:
        raise InputError(
            f"One image of each of {source.location}'s {len(source.class_names)} classes takes "
            f"{len(source.class_names) * image_bytes:,} bytes and {max_bytes:,} are allowed; "
            "allow more memory or choose a smaller image size."
        )
    rank = shuffled_rank(labels, seed)
    chosen = np.flatnonzero(rank < share)
    place = np.empty(len(chosen), dtype=np.int64)
    place[np.lexsort((rank[chosen], labels[chosen]))] = np.arange(len(chosen))

    images = torch.empty((len(chosen), source.channels, image_size, image_size), dtype=torch.uint8)
    places = torch.from_numpy(place)
    done = 0
    for batch in stream(
        source.train,
        channels=source.channels,
        image_size=image_size,
        batch_size=_BATCH,
        indices=chosen,
        workers=workers,
    ):
        images[places[done : done + len(batch.images)]] = batch.images
        done += len(batch.images)
    return Sample(images, torch.from_numpy(np.sort(labels[chosen])))


def _affordable(counts: np.ndarray, per_class: int, limit: int) -> int:
    """The most images of each class, at most `per_class`, that are `limit` images or fewer."""
    low, high = 0, min(per_class, int(counts.max()))
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= limit:
            low = middle
        else:
            high = middle - 1
    return low
