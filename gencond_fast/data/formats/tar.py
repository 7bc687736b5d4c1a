"""A .tar of class folders: reads headers once and images by their offset, and extracts nothing."""

from __future__ import annotations

import os
import tarfile
from array import array
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from gencond_fast.data.contract import MAX_BYTES, Block, Opened, Split, files_digest
from gencond_fast.data.formats.annotations import NOTES
from gencond_fast.data.formats.layout import arrange
from gencond_fast.data.formats.tree import Lister, Listing, is_hidden, is_image
from gencond_fast.data.text import decode_text
from gencond_fast.errors import InputError


class TarSplit(Split):
    """Images inside an archive, in its order. Memory: 16 bytes an image, and the listing."""

    def __init__(
        self,
        path: Path,
        listing: Listing,
        spans: tuple[np.ndarray, np.ndarray],
        rows: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        self._path = path
        self._listing = listing
        self._offsets, self._sizes = spans
        self._rows = rows
        self.labels = labels

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        with _open_file(self._path) as file:
            for start in range(0, len(indices), block):
                rows = self._rows[indices[start : start + block]]
                spans = zip(self._sizes[rows].tolist(), self._offsets[rows].tolist(), strict=True)
                yield [partial(_contents, file.fileno(), size, at) for size, at in spans]

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"{self._listing.path(self._rows[index])} in {self._path}"

    def file_name(self, index: int) -> str:
        """See `Split.file_name`."""
        return os.fsdecode(self._listing.name(self._rows[index]))


def open_tar(path: Path) -> Opened:
    """Opens an uncompressed archive of class folders, see `layout.arrange`.

    Raises:
        InputError: the archive is damaged or cut short, an image in it is a link or has a path
            that leaves the archive, or `arrange` refuses the tree.
    """
    lister = Lister()
    offsets, sizes = array("q"), array("q")
    notes: dict[str, tuple[int, int]] = {}
    for member in _members(path):
        parts = _parts(member, path)
        if not parts or any(is_hidden(part) for part in parts):
            continue
        if member.isdir():
            lister.add_folder(parts)
        elif is_image(parts[-1]):
            if not member.isreg() or member.issparse():
                raise InputError(
                    f"{member.name} in {path} is a link or no plain file; write the archive again "
                    "with tar --dereference --hard-dereference."
                )
            if member.size > MAX_BYTES:
                raise InputError(
                    f"{member.name} in {path} has more than {MAX_BYTES:,} bytes; leave it out."
                )
            lister.add_image(lister.add_folder(parts[:-1]), parts[-1])
            offsets.append(member.offset_data)
            sizes.append(member.size)
        elif parts[-1] in NOTES and member.isreg() and not member.issparse():
            notes["/".join(parts)] = (member.size, member.offset_data)
    listing = lister.listing()
    layout = arrange(listing, str(path), partial(_note, path, notes))
    spans = (np.frombuffer(offsets, dtype=np.int64), np.frombuffer(sizes, dtype=np.int64))
    splits = [layout.train, *layout.tests.values()]
    train, *tests = (TarSplit(path, listing, spans, *split) for split in splits)
    return Opened(
        layout.class_names,
        train,
        files_digest([path], path.parent),  # labels inside the archive included
        path.stat().st_size,
        tests=dict(zip(layout.tests, tests, strict=True)),
        unusable=layout.unusable,
        titles=layout.titles,
        notes=layout.notes,
    )


def _note(path: Path, notes: dict[str, tuple[int, int]], name: str) -> str | None:
    if name not in notes:
        return None
    with _open_file(path) as file:
        return decode_text(_contents(file.fileno(), *notes[name]))


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yields the headers, then checks that the archive ends where it should."""
    with _open_file(path) as file:
        try:
            with tarfile.TarFile(fileobj=cast(BinaryIO, _Bounded(file))) as archive:
                while (member := archive.next()) is not None:
                    # tarfile would keep every header
                    archive.members.clear()  # type: ignore[attr-defined]
                    yield member
                end = archive.offset
        except Exception as error:  # headers raise what they like
            raise _damaged(path, str(error)) from error
        # tarfile takes a damaged or missing header for the end; a real end is a block of zeros.
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise _damaged(path, f"no end of archive at byte {end}")


class _Bounded:
    """A file that never reads beyond its end, whatever sizes a header claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(min(size, left) if size >= 0 else left)


def _parts(member: tarfile.TarInfo, path: Path) -> tuple[str, ...]:
    parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
    if member.name.startswith("/") or ".." in parts:
        raise InputError(
            f"{member.name} in {path} has a path that leaves the archive; write the archive again "
            "with relative paths."
        )
    return parts


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); repair it.") from error


def _contents(descriptor: int, size: int, offset: int) -> bytes:
    data = os.pread(descriptor, size, offset)  # has no file position, so threads may share it
    if len(data) != size:
        raise OSError("the archive has become shorter")
    return data


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is damaged or no .tar file ({reason}); fetch or write it again.")
