"""What every data format offers: splits whose labels are in memory and whose images are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gencond_fast.data.digest import BY_CONTENTS

Load = Callable[[], bytes]
"""Returns the encoded bytes of one image; any thread may call it until its read ends."""

Block = list[Load] | np.ndarray
"""Consecutive images of a read: a `Load` for each, or their pixels, uint8 [n, H, W, 1 or 3]."""

MAX_IMAGES = 1 << 27
"""The most images that a file of arrays or a table may claim, since a few bytes can claim any."""

MAX_BYTES = 1 << 30
"""The largest encoded image."""

_PIECE = 64


class Split(ABC):
    """One split of a data set as its container stores it: labels in memory, images on demand.

    A split never changes once it is made. How its images are decoded, skipped and cached is the
    business of an `ImageReader`.

    Attributes:
        labels: int64 [N], values 0 … C-1, known without decoding an image.
        shape: (H, W, channels) of every image where images are stored as pixels, else None.
        serial_bytes: the average stored size of an image in bytes, where images are only cheap to
            read in ascending stretches (parquet, .npz); None where any single image is as cheap.
    """

    labels: np.ndarray
    shape: tuple[int, int, int] | None = None
    serial_bytes: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pieces(self) -> np.ndarray:
        """Edges of the stretches that one worker reads best: ascending int64, from 0 to N."""
        return np.append(np.arange(0, len(self), _PIECE), len(self))

    def origin(self, rows: np.ndarray) -> np.ndarray:
        """The rows that the images at `rows` have in the whole split of the container: int64 [n].

        A subset of a split gives other numbers than `rows`.
        """
        return rows

    @abstractmethod
    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """Yields images in blocks of `block`, the last one shorter; decodes none of them.

        Files stay open until the iterator is closed or exhausted. Until then the loads that it
        gave may be called.

        Args:
            indices: int64 [n], strictly ascending, within 0 … N-1.
            block: images in a yielded block, at least 1.

        Raises:
            InputError: a file is missing, unreadable or damaged.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """A name of image `index` for messages, by which the user finds it."""

    def file_name(self, index: int) -> str:
        """The name of the file of image `index`; empty where several images share a file."""
        return ""


class Subset(Split):
    """Some images of another split.

    Args:
        base: the other split.
        rows: int64 [n], strictly ascending, the rows of the images in `base`.
        labels: int64 [n], new labels; None keeps those of `base`.
    """

    def __init__(self, base: Split, rows: np.ndarray, labels: np.ndarray | None = None) -> None:
        self._base = base
        self._rows = rows
        self.labels = base.labels[rows] if labels is None else labels
        self.shape = base.shape
        self.serial_bytes = base.serial_bytes

    def pieces(self) -> np.ndarray:
        """See `Split.pieces`."""
        return np.unique(np.searchsorted(self._rows, self._base.pieces()))

    def origin(self, rows: np.ndarray) -> np.ndarray:
        """See `Split.origin`."""
        return self._base.origin(self._rows[rows])

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        return self._base.read(self._rows[indices], block)

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return self._base.where(int(self._rows[index]))

    def file_name(self, index: int) -> str:
        """See `Split.file_name`."""
        return self._base.file_name(int(self._rows[index]))


@dataclass(frozen=True, eq=False)
class Opened:
    """A data set as one data format has opened it, for `open_source`.

    Attributes:
        class_names: the name of label k at place k.
        train: the training split.
        digest: sha256 hex that changes with the data.
        bytes: the stored size of all images, as files, inside archives or in memory.
        tests: the labelled splits to test on by name, the preferred one first.
        unusable: splits that cannot be tested on by name, and why.
        titles: readable names of the classes, where the data set has them.
        notes: a line each about what is left out or guessed.
        compared: what the digest is of, in words.
    """

    class_names: tuple[str, ...]
    train: Split
    digest: str
    bytes: int
    tests: Mapping[str, Split] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    titles: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    compared: str = BY_CONTENTS


def files_bytes(files: Iterable[Path]) -> int:
    """The total size of files in bytes."""
    return sum(file.stat().st_size for file in files)


def runs(indices: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields the (start, stop) positions of each run of consecutive numbers in `indices`.

    For example, [3, 4, 5, 9] gives (0, 3) and (3, 4).
    """
    if len(indices) == 0:
        return
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    edges = [0, *breaks.tolist(), len(indices)]
    yield from zip(edges[:-1], edges[1:], strict=True)
