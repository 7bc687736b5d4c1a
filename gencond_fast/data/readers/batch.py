"""What every reader is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from gencond_fast.data.contract import Block, Split
from gencond_fast.data.crop import RandomCrop


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one split and where they stand in it.

    Attributes:
        images: uint8 [B, channels, S, S], contiguous or channels last.
        labels: int64 [B], on the CPU.
        indices: int64 [B], ascending, on the CPU; repeated only where an epoch is balanced.
        done: how many of the images wanted are behind the reader once this batch is used, those
            left out included: where to go on after an interruption.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    done: int


@dataclass(frozen=True)
class Form:
    """The form every image is brought into.

    Attributes:
        channels: 1 or 3.
        size: S, height and width.
        crop: the window of each image that is resized to it; None is the largest centred square.
    """

    channels: int
    size: int
    crop: RandomCrop | None = None

    def empty(self, count: int) -> np.ndarray:
        """Room for so many images, uint8 [count, channels, S, S]."""
        return np.empty((count, self.channels, self.size, self.size), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Part:
    """The images wanted in one batch.

    Attributes:
        rows: int64 [n], strictly ascending.
        done: how many of the images wanted are behind the reader with it.
    """

    rows: np.ndarray
    done: int


Pairs = Iterator[tuple[Part, Block]]
"""Parts and their images in the same order, to be decoded."""

Reader = Callable[[Split, Form, Pairs, int], Iterator[Batch]]
"""Decodes pairs, with so many workers, into batches in the same order, prepared a few ahead.

It ends what it has begun (threads, processes) when the iterator that it gives is closed or dropped,
and calls no `Load` after that. An image that cannot be decoded is told to `split.skipping`, and the
batch is what is left, or nothing; where that is None it raises `BadImage`. Images that `skipping`
knows of are not touched.
"""


def parts_of(rows: np.ndarray, batch_size: int) -> Iterator[Part]:
    """Parts of ascending rows, the last one shorter."""
    for at in range(0, len(rows), batch_size):
        yield Part(rows[at : at + batch_size], min(at + batch_size, len(rows)))


@contextmanager
def in_order(split: Split, rows: np.ndarray, batch_size: int) -> Generator[Pairs, None, None]:
    """Pairs of ascending rows; the loads may be called until the context ends."""
    parts = parts_of(rows, batch_size)
    with closing(split.read(rows, batch_size)) as blocks:
        # Never asks for more than there is: at its end a read closes the files of its loads.
        yield ((part, next(blocks)) for part in parts)


def batch_of(split: Split, part: Part, images: torch.Tensor, bad: np.ndarray) -> Iterator[Batch]:
    """The batch of a part less its bad images (bool [n]), or nothing where none is left."""
    rows = part.rows
    if bad.any():
        rows, images = rows[~bad], images[torch.from_numpy(~bad)]
    if len(rows):
        labels, indices = torch.from_numpy(split.labels[rows]), torch.from_numpy(rows.copy())
        yield Batch(images, labels, indices, part.done)
