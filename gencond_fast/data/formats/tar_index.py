"""What lies where in a .tar: its headers are read once, and nothing is extracted."""

from __future__ import annotations

import os
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np

from gencond_fast.data.contract import MAX_BYTES
from gencond_fast.data.formats.annotations import NOTES
from gencond_fast.data.formats.names import LeftOut, is_hidden, is_image
from gencond_fast.data.formats.tree import Lister, Listing
from gencond_fast.errors import InputError
from gencond_fast.system.words import counted

_LABELS = (".cls", ".cls.txt", ".txt", ".json")
_LARGEST_LABEL = 1 << 16


@dataclass(frozen=True, eq=False)
class Archive:
    """The N images of an archive in its order, and the texts that may label them.

    Attributes:
        path: of the archive.
        listing: the paths of the images.
        offsets: int64 [N], where each image starts.
        sizes: int64 [N], in bytes.
        texts: size and offset of each text that may hold labels, by its path.
        notes: a line each about what is left out.
        archives: the names of archives inside this one.
    """

    path: Path
    listing: Listing
    offsets: np.ndarray
    sizes: np.ndarray
    texts: dict[str, tuple[int, int]]
    notes: tuple[str, ...]
    archives: tuple[str, ...]

    def refuse_nested(self) -> None:
        """Raises InputError where all there is are further archives."""
        if self.archives and not len(self.listing):
            raise InputError(
                f"{self.path} holds {counted(len(self.archives), 'archive')}, such as "
                f"{self.archives[0]}, and no images; extract it, and each of them into a folder of "
                "its own."
            )


@dataclass
class _Making:
    """Collects the members of an archive; of several of one path the last one counts."""

    path: Path
    lister: Lister = field(default_factory=Lister)
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    texts: dict[str, tuple[int, int]] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    archives: list[str] = field(default_factory=list)
    hashes: array[int] = field(default_factory=lambda: array("q"))

    def add(self, member: tarfile.TarInfo) -> None:
        parts = _parts(member, self.path)
        hidden = next((part for part in parts[:-1] if is_hidden(part)), None)
        if not parts or hidden is not None or (member.isdir() and is_hidden(parts[-1])):
            if member.isdir() and parts and is_hidden(parts[-1]) and hidden is None:
                self.left_out.add_folder(parts[-1])
            return
        if member.isdir():
            self.lister.add_folder(parts)
        elif is_image(parts[-1]):
            self._add_image(member, parts)
        elif parts[-1] in NOTES or (parts[-1].endswith(_LABELS) and member.size < _LARGEST_LABEL):
            if member.isreg() and not member.issparse():
                self.texts["/".join(parts)] = (member.size, member.offset_data)
        else:
            if parts[-1].endswith(".tar"):
                self.archives.append(parts[-1])
            self.left_out.add_file(parts[-1])

    def _add_image(self, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        if not member.isreg() or member.issparse():
            raise InputError(
                f"{member.name} in {self.path} is a link or no plain file; write the archive again "
                "with tar --dereference --hard-dereference."
            )
        if member.size > MAX_BYTES:
            raise InputError(
                f"{member.name} in {self.path} has more than {MAX_BYTES:,} bytes; leave it out."
            )
        self.hashes.append(hash(parts))
        self.lister.add_image(self.lister.add_folder(parts[:-1]), parts[-1])
        self.offsets.append(member.offset_data)
        self.sizes.append(member.size)

    def archive(self) -> Archive:
        notes = self.left_out.lines(str(self.path))
        archive = Archive(
            self.path,
            self.lister.listing(),
            np.frombuffer(self.offsets, dtype=np.int64),
            np.frombuffer(self.sizes, dtype=np.int64),
            self.texts,
            notes,
            tuple(self.archives),
        )
        rows = _last_of_each_path(archive.listing, np.frombuffer(self.hashes, dtype=np.int64))
        return archive if len(rows) == len(archive.sizes) else _without(archive, rows)


def _last_of_each_path(listing: Listing, hashes: np.ndarray) -> np.ndarray:
    """Rows of the images that extraction would leave: of several of one path, the last one."""
    values, counts = np.unique(hashes, return_counts=True)
    suspects = np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist()
    last = {listing.path(row): row for row in suspects}
    dropped = [row for row in suspects if last[listing.path(row)] != row]
    return np.setdiff1d(np.arange(len(hashes)), dropped)


def _without(archive: Archive, rows: np.ndarray) -> Archive:
    """The archive with the images at `rows` alone."""
    lister, old = Lister(), archive.listing
    for folder in old.folders:
        lister.add_folder(folder)
    for row in rows.tolist():
        lister.add_image(int(old.folder_of[row]), os.fsdecode(old.name(row)))
    count = counted(len(archive.sizes) - len(rows), "image")
    note = f"left out in {archive.path}: {count} that a later member of the same path replaces"
    return replace(
        archive,
        listing=lister.listing(),
        offsets=archive.offsets[rows],
        sizes=archive.sizes[rows],
        notes=(*archive.notes, note),
    )


def read_archive(path: Path) -> Archive:
    """Reads all headers of an archive.

    Raises:
        InputError: it is damaged, cut short or followed by another one, or an image in it is a
            link or has a path that leaves the archive.
    """
    made = _Making(path)
    for member in _members(path):
        made.add(member)
    return made.archive()


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yields the headers, then checks that the archive ends where it should."""
    with open_archive(path) as file:
        try:
            with tarfile.TarFile(fileobj=cast(BinaryIO, _Bounded(file))) as archive:
                while (member := archive.next()) is not None:
                    # tarfile would keep every header
                    archive.members.clear()  # type: ignore[attr-defined]
                    yield member
                end = archive.offset
        except InputError:
            raise
        except Exception as error:  # headers raise what they like
            raise _damaged(path, str(error)) from error
        # tarfile takes a damaged or missing header for the end; a real end is a block of zeros.
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise _damaged(path, f"no end of archive at byte {end}")
        _refuse_another(file, path)


def _refuse_another(file: BinaryIO, path: Path) -> None:
    """Raises where more than zeros follow the end of an archive."""
    while data := file.read(1 << 20):
        if data.strip(b"\0"):
            raise InputError(
                f"{path} goes on behind its end, as archives that are written one behind another "
                "do; extract it with tar --ignore-zeros and write one archive."
            )


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


def open_archive(path: Path) -> BinaryIO:
    """Opens the file of an archive.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); repair it.") from error


def contents(descriptor: int, size: int, offset: int) -> bytes:
    """A member of an open archive.

    Raises:
        OSError: the archive has become shorter.
    """
    data = os.pread(descriptor, size, offset)  # has no file position, so threads may share it
    if len(data) != size:
        raise OSError("the archive has become shorter")
    return data


def stem_of(path: str) -> str:
    """What the members of a sample of a WebDataset share: the path up to the name's first dot."""
    pure = PurePosixPath(path)
    name = pure.name.split(".", 1)[0]
    return name if pure.parent == PurePosixPath() else f"{pure.parent}/{name}"


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is damaged or no .tar file ({reason}); fetch or write it again.")
