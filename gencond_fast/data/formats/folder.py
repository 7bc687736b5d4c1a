"""Class folders on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import MAX_BYTES, Block, Opened, Split
from gencond_fast.data.formats.index import read_index
from gencond_fast.data.formats.layout import arrange, digest_of
from gencond_fast.data.formats.names import LeftOut
from gencond_fast.data.formats.tree import Listing
from gencond_fast.data.text import decode_text
from gencond_fast.errors import InputError


class FolderSplit(Split):
    """Images in one file each, found by the number of the folder and the name of the file."""

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

    def file_name(self, index: int) -> str:
        """See `Split.file_name`."""
        return os.fsdecode(self._listing.name(self._rows[index]))


def open_folder(root: Path) -> Opened:
    """Opens a tree of class folders, see `layout.arrange`; follows links to folders.

    Raises:
        InputError: a folder cannot be read, a folder links to one around it, or `arrange` refuses
            the tree.
    """
    index = read_index(root)
    layout = arrange(index.listing, str(root), partial(_note, root))
    splits = [layout.train, *layout.tests.values()]
    train, *tests = (FolderSplit(root, index.listing, *split) for split in splits)
    return Opened(
        layout.class_names,
        train,
        digest_of(index.digest, layout),
        sum(int(index.sizes[rows].sum()) for rows, _ in splits),
        tests=dict(zip(layout.tests, tests, strict=True)),
        unusable=layout.unusable,
        titles=layout.titles,
        notes=(*layout.notes, *LeftOut(index.left_out).lines(str(root))),
        compared=index.compared,
    )


def _note(root: Path, path: str) -> str | None:
    file = root / path
    try:
        return decode_text(file.read_bytes()) if file.is_file() else None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); repair it.") from error


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"more than {MAX_BYTES:,} bytes")
        return file.read()
