"""What every kind of source offers: splits that are read in order and never held in memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gencond_fast.data.skipping import Skipping

if TYPE_CHECKING:
    from gencond_fast.data.readers.image_cache import ImageCache

Load = Callable[[], bytes]
"""Fetches the encoded bytes of one image, from any thread, until its read has ended."""

Block = list[Load] | np.ndarray
"""Consecutive images of a read: one `Load` each, or their pixels, uint8 [n, H, W, 1 or 3]."""

MAX_IMAGES = 1 << 27
"""In a file of arrays or a table, where a few bytes can state any number of them."""

MAX_BYTES = 1 << 30
"""Of one encoded image."""

_PIECE = 64


class Split(ABC):
    """One split of a data set: labels at hand, images on demand.

    Attributes:
        labels: int64 [N], values 0 … C-1, known without decoding an image.
        shape: (H, W, channels) of every image where the container fixes it, else None.
        skipping: what is left out as undecodable; None where an undecodable image is an error.
        serial_bytes: what an image takes on average as it is read, where images are to be had in
            ascending stretches alone; None where each can be read by itself as cheaply.
        reader: who decodes the images, `threads`, `processes` or `dali`: see `choice`.
        kept: images that are held in memory once they were decoded, or None.
    """

    labels: np.ndarray
    shape: tuple[int, int, int] | None = None
    skipping: Skipping | None = None
    serial_bytes: int | None = None
    reader: str = "threads"
    kept: ImageCache | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pieces(self) -> np.ndarray:
        """Ascending edges 0 … N, int64, of the stretches that are best read by one worker."""
        return np.append(np.arange(0, len(self), _PIECE), len(self))

    def origin(self, rows: np.ndarray) -> np.ndarray:
        """Where the images at `rows` stand in the split as its container has it."""
        return rows

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

    def file_name(self, index: int) -> str:
        """What the file of image `index` is called, empty where it has none of its own."""
        return ""


class Subset(Split):
    """The images of another split at the given strictly ascending rows.

    Args:
        base: the other split.
        rows: int64 [n], strictly ascending.
        labels: int64 [n], where they are numbered anew; None keeps those of `base`.
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
    """What the reader of one kind of source hands to `open_source`.

    Attributes:
        class_names: the name of label k at place k.
        train: the training split.
        val: the validation split, or None.
        digest: sha256 hex that changes with the data.
        bytes: what all images take where they lie, as files, inside archives or in memory.
        titles: readable names of the classes, where the source has them.
    """

    class_names: tuple[str, ...]
    train: Split
    val: Split | None
    digest: str
    bytes: int
    titles: tuple[str, ...] | None = None


def files_digest(files: Iterable[Path], root: Path) -> str:
    """Returns the sha256 hex of the files' names below `root`, sizes and modification times."""
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        entry = f"{file.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(entry.encode(errors="surrogateescape"))
    return digest.hexdigest()


def files_bytes(files: Iterable[Path]) -> int:
    """The sizes of all files together."""
    return sum(file.stat().st_size for file in files)


def runs(indices: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) positions of the stretches of consecutive numbers in `indices`."""
    if len(indices) == 0:
        return
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    edges = [0, *breaks.tolist(), len(indices)]
    yield from zip(edges[:-1], edges[1:], strict=True)
