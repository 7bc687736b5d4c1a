"""What every kind of source offers: splits that are read in order and never held in memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Load = Callable[[], bytes]
"""Fetches the encoded bytes of one image, from any thread, until its read has ended."""

Block = list[Load] | np.ndarray
"""Consecutive images of a read: one `Load` each, or their pixels, uint8 [n, H, W, 1 or 3]."""


class Split(ABC):
    """One split of a data set: labels at hand, images on demand.

    Attributes:
        labels: int64 [N], values 0 … C-1, known without decoding an image.
        shape: (H, W, channels) of every image where the container fixes it, else None.
    """

    labels: np.ndarray
    shape: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """Yields the images at strictly ascending `indices`, `block` at a time, the last shorter.

        Files stay open until the iterator is closed or has found its end, and the loads that it
        gave may be called until then.

        Args:
            indices: int64 [n], strictly ascending, within 0 … N-1.
            block: images in each yielded block, at least 1.

        Raises:
            InputError: a file is missing, unreadable or damaged.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """Names image `index` so that the user can find it, for messages."""


class Subset(Split):
    """The images of another split at the given strictly ascending rows."""

    def __init__(self, base: Split, rows: np.ndarray) -> None:
        self._base = base
        self._rows = rows
        self.labels = base.labels[rows]
        self.shape = base.shape

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        return self._base.read(self._rows[indices], block)

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return self._base.where(int(self._rows[index]))


@dataclass(frozen=True, eq=False)
class Opened:
    """What the reader of one kind of source hands to `open_source`."""

    class_names: tuple[str, ...]
    train: Split
    val: Split | None
    digest: str


def files_digest(files: Iterable[Path], root: Path) -> str:
    """Returns the sha256 hex of the files' names below `root`, sizes and modification times."""
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        entry = f"{file.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(entry.encode(errors="surrogateescape"))
    return digest.hexdigest()


def runs(indices: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) positions of the stretches of consecutive numbers in `indices`."""
    if len(indices) == 0:
        return
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    edges = [0, *breaks.tolist(), len(indices)]
    yield from zip(edges[:-1], edges[1:], strict=True)
