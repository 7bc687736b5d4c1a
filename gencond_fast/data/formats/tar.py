"""Archives of images, read without extraction: class folders, or samples of a WebDataset."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import Block, Opened, Split
from gencond_fast.data.digest import files_digest
from gencond_fast.data.formats.layout import arrange
from gencond_fast.data.formats.tar_index import Archive, contents, open_archive, read_archive
from gencond_fast.data.formats.tree import Listing
from gencond_fast.data.formats.webdataset import is_webdataset, open_webdataset
from gencond_fast.data.text import decode_text


class TarSplit(Split):
    """Images inside an archive, in its order. Memory: 16 bytes an image, and the listing."""

    def __init__(self, archive: Archive, rows: np.ndarray, labels: np.ndarray) -> None:
        self._path = archive.path
        self._listing: Listing = archive.listing
        self._offsets, self._sizes = archive.offsets, archive.sizes
        self._rows = rows
        self.labels = labels

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        with ExitStack() as stack:
            file = stack.enter_context(open_archive(self._path))
            for start in range(0, len(indices), block):
                rows = self._rows[indices[start : start + block]]
                spans = zip(self._sizes[rows].tolist(), self._offsets[rows].tolist(), strict=True)
                yield [partial(contents, file.fileno(), size, at) for size, at in spans]

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"{self._listing.path(self._rows[index])} in {self._path}"

    def file_name(self, index: int) -> str:
        """See `Split.file_name`."""
        return os.fsdecode(self._listing.name(self._rows[index]))


def open_tar(path: Path) -> Opened:
    """Opens an uncompressed archive of class folders, see `layout.arrange`, or a WebDataset.

    Raises:
        InputError: the archive is damaged or cut short, an image in it is a link or has a path
            that leaves the archive, or `arrange` refuses the tree.
    """
    archive = read_archive(path)
    if is_webdataset(archive):
        return open_webdataset([archive], {}, path.parent, ())
    archive.refuse_nested()
    layout = arrange(archive.listing, str(path), partial(_note, archive))
    splits = [layout.train, *layout.tests.values()]
    train, *tests = (TarSplit(archive, *split) for split in splits)
    digest, compared = files_digest([path], path.parent)  # labels inside the archive included
    return Opened(
        layout.class_names,
        train,
        digest,
        path.stat().st_size,
        tests=dict(zip(layout.tests, tests, strict=True)),
        unusable=layout.unusable,
        titles=layout.titles,
        notes=(*layout.notes, *archive.notes),
        compared=compared,
    )


def read_archives(paths: Sequence[Path]) -> list[Archive]:
    """The headers of several archives."""
    return [read_archive(path) for path in paths]


def _note(archive: Archive, name: str) -> str | None:
    if name not in archive.texts:
        return None
    with open_archive(archive.path) as file:
        return decode_text(contents(file.fileno(), *archive.texts[name]))
