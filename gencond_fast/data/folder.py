"""Class folders on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import Block, Opened, Split
from gencond_fast.data.tree import Listing, arrange, is_hidden, is_image
from gencond_fast.errors import InputError


class FolderSplit(Split):
    """Images in files of their own, found by folder number and name."""

    def __init__(self, root: Path, listing: Listing, rows: np.ndarray, labels: np.ndarray) -> None:
        self._root = os.fspath(root)
        self._listing = listing
        self._rows = rows
        self.labels = labels

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        for start in range(0, len(indices), block):
            part = indices[start : start + block].tolist()
            yield [partial(_contents, self.where(index)) for index in part]

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"{self._root}/{self._listing.path(self._rows[index])}"


def open_folder(root: Path) -> Opened:
    """Opens a tree of class folders, see `tree.arrange`; links to folders are followed.

    Raises:
        InputError: a folder cannot be read, links to one around it, or `arrange` finds fault.
    """
    listing = Listing()
    digest = hashlib.sha256()
    _scan(root, (), frozenset(), listing, digest)
    layout = arrange(listing, str(root))
    train = FolderSplit(root, listing, *layout.train)
    val = None if layout.val is None else FolderSplit(root, listing, *layout.val)
    return Opened(layout.class_names, train, val, digest.hexdigest())


def _scan(
    folder: Path,
    parts: tuple[str, ...],
    around: frozenset[tuple[int, int]],
    listing: Listing,
    digest: hashlib._Hash,
) -> None:
    try:
        status = folder.stat()
        with os.scandir(folder) as found:
            shown = [(entry.name, entry.is_dir()) for entry in found if not is_hidden(entry.name)]
        if (status.st_dev, status.st_ino) in around:
            raise InputError(f"{folder} links to a folder around it; remove the link.")
        around |= {(status.st_dev, status.st_ino)}
        place = listing.add_folder(parts) if parts else None
        for name in sorted(name for name, is_folder in shown if not is_folder and is_image(name)):
            place = listing.add_folder(parts) if place is None else place
            listing.add_image(place, name)
            file = os.stat(f"{folder}/{name}")
            line = f"{'/'.join(parts)}/{name}\0{file.st_size}\0{file.st_mtime_ns}\n"
            digest.update(os.fsencode(line))
        for name in sorted(name for name, is_folder in shown if is_folder):
            _scan(folder / name, (*parts, name), around, listing, digest)
    except OSError as error:
        reason = error.strerror or error
        blamed = error.filename or folder
        raise InputError(f"{blamed} cannot be read ({reason}); repair or remove it.") from error


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
