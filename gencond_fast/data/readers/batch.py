"""What every reader is asked for (`Form`, `Part`) and what it gives (`Batch`)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from gencond_fast.data.contract import Block, Split
from gencond_fast.data.crop import RandomCrop


@dataclass(frozen=True, eq=False)
class Batch:
    """Decoded images of one split, with their labels and rows.

    Attributes:
        images: uint8 [B, channels, S, S], contiguous or channels last.
        labels: int64 [B], on the CPU.
        indices: int64 [B], ascending rows of the split, on the CPU. A row comes more than once only
            in a balanced epoch.
        done: how many of the images asked for are done after this batch, including those left out.
            After an interruption, go on from there.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    done: int


@dataclass(frozen=True)
class Form:
    """The form that every image is brought into: a square of S x S pixels.

    Attributes:
        channels: 1 (gray) or 3 (RGB).
        size: S, height and width.
        crop: which window of an image is resized to the square; None is the largest centred square.
    """

    channels: int
    size: int
    crop: RandomCrop | None = None

    def empty(self, count: int) -> np.ndarray:
        """Uninitialised memory for `count` images: uint8 [count, channels, S, S]."""
        return np.empty((count, self.channels, self.size, self.size), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Part:
    """The images asked for in one batch.

    Attributes:
        rows: int64 [n], strictly ascending.
        done: as in `Batch`.
    """

    rows: np.ndarray
    done: int


Pairs = Iterator[tuple[Part, Block]]
"""The parts in the order they are asked for, each with its images still encoded."""


def parts_of(rows: np.ndarray, batch_size: int) -> Iterator[Part]:
    """Cuts ascending rows into parts of `batch_size`, the last one shorter."""
    for at in range(0, len(rows), batch_size):
        yield Part(rows[at : at + batch_size], min(at + batch_size, len(rows)))


@contextmanager
def in_order(split: Split, rows: np.ndarray, batch_size: int) -> Generator[Pairs, None, None]:
    """The pairs of ascending rows; the loads in them may be called until the context ends."""
    parts = parts_of(rows, batch_size)
    with closing(split.read(rows, batch_size)) as blocks:
        # asks for no block beyond the last: a read that is exhausted closes the files of its loads
        yield ((part, next(blocks)) for part in parts)


def batch_of(
    labels: np.ndarray, part: Part, images: torch.Tensor, bad: np.ndarray
) -> Iterator[Batch]:
    """The batch of a part without its undecodable images; nothing where none is left.

    Args:
        labels: int64 [N], of the whole split.
        part: n rows.
        images: uint8 [n, channels, S, S].
        bad: bool [n], which of them are left out.
    """
    rows = part.rows
    if bad.any():
        rows, images = rows[~bad], images[torch.from_numpy(~bad)]
    if len(rows):
        indices = torch.from_numpy(rows.copy())
        yield Batch(images, torch.from_numpy(labels[rows]), indices, part.done)
