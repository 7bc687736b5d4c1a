"""The scan of a tree of image files; it opens none of them."""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gencond_fast.data.digest import tree_digest
from gencond_fast.data.formats.names import LeftOut, is_hidden, is_image
from gencond_fast.data.formats.tree import Lister, Listing
from gencond_fast.errors import InputError

THREADS = 8  # hide the latency of a network; on a local disk one is as fast


@dataclass(frozen=True, eq=False)
class Index:
    """Every image file of a tree.

    Attributes:
        listing: the paths of the N images.
        sizes: int64 [N], in bytes.
        times: int64 [N], times of modification in nanoseconds.
        stamps: int64 [folders + 1], times of modification of the folders; the last is the root's.
        digest: sha256 hex of the images, see `digest.tree_digest`.
        compared: what the digest is of.
        left_out: what is left out for its name, as `LeftOut.counts`.
    """

    listing: Listing
    sizes: np.ndarray
    times: np.ndarray
    stamps: np.ndarray
    digest: str
    compared: str
    left_out: dict[str, int]


def scan(root: Path) -> Index:
    """Finds every image below a folder; follows links to folders and leaves out hidden names.

    Raises:
        InputError: as `read_index`.
    """
    made = _Making()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="gencond-scan") as pool:
        try:
            made.walk(pool, pool.submit(_look, os.fspath(root), ()), frozenset())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return made.index(root)


@dataclass(frozen=True, eq=False)
class _Folder:
    """The content of one folder, names sorted."""

    path: str
    parts: tuple[str, ...]
    status: os.stat_result
    files: list[str]
    sizes: array[int]
    times: array[int]
    folders: list[str]
    left_out: LeftOut


def _look(path: str, parts: tuple[str, ...]) -> _Folder:
    handle, left_out = None, LeftOut()
    try:
        status = os.stat(path)
        with os.scandir(path) as found:
            entries = [(entry.name, entry.is_dir()) for entry in found]
        files = sorted(name for name, is_folder in entries if not is_folder and is_image(name))
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        sizes, times = stat_files(files, handle)
    except OSError as error:
        # a file is looked up from within its folder, which its name then lacks
        lost = isinstance(error.filename, str) and not error.filename.startswith("/")
        blamed = f"{path}/{error.filename}" if handle is not None and lost else path
        reason = error.strerror or error
        raise InputError(f"{blamed} cannot be read ({reason}); repair or remove it.") from error
    finally:
        if handle is not None:
            os.close(handle)
    for name, is_folder in entries:
        if is_folder and is_hidden(name):
            left_out.add_folder(name)
        elif not is_folder and not is_image(name):
            left_out.add_file(name)
    folders = sorted(name for name, is_folder in entries if is_folder and not is_hidden(name))
    return _Folder(path, parts, status, files, sizes, times, folders, left_out)


def stat_files(files: Iterable[str | bytes], folder: int) -> tuple[array[int], array[int]]:
    """Sizes in bytes and times of modification in nanoseconds of files in an open folder.

    Args:
        files: names in the folder.
        folder: descriptor of the folder.

    Raises:
        OSError: a file is missing, or is a pipe or a device.
    """
    sizes, times = array("q"), array("q")
    for file in files:
        status = os.stat(file, dir_fd=folder)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
            raise OSError(errno.EINVAL, "no plain file", os.fsdecode(file))
        sizes.append(status.st_size)
        times.append(status.st_mtime_ns)
    return sizes, times


class _Making:
    """Collects the contents of all folders, in the order of their names."""

    def __init__(self) -> None:
        self._lister = Lister()
        self._sizes, self._times = array("q"), array("q")
        self._stamps: dict[int, int] = {}
        self._root = 0
        self._left_out = LeftOut()

    def walk(
        self, pool: ThreadPoolExecutor, looked: Future[_Folder], around: frozenset[tuple[int, int]]
    ) -> None:
        folder = looked.result()
        identity = (folder.status.st_dev, folder.status.st_ino)
        if identity in around:
            raise InputError(f"{folder.path} links to a folder around it; remove the link.")
        self._add(folder)
        inside = [(f"{folder.path}/{name}", (*folder.parts, name)) for name in folder.folders]
        del folder, looked  # the names of its files are noted
        for child in _ahead(pool, inside):
            self.walk(pool, child, around | {identity})

    def _add(self, folder: _Folder) -> None:
        if not folder.parts:
            self._root = folder.status.st_mtime_ns
        if folder.parts or folder.files:
            place = self._lister.add_folder(folder.parts)
            self._stamps[place] = folder.status.st_mtime_ns
            for name in folder.files:
                self._lister.add_image(place, name)
        self._sizes += folder.sizes
        self._times += folder.times
        self._left_out.add(folder.left_out)

    def index(self, root: Path) -> Index:
        listing, sizes = self._lister.listing(), np.frombuffer(self._sizes, dtype=np.int64)
        digest, compared = tree_digest(os.fspath(root), listing.path, sizes)
        stamps = [self._stamps[place] for place in range(len(self._stamps))]
        return Index(
            listing,
            sizes,
            np.frombuffer(self._times, dtype=np.int64),
            np.array([*stamps, self._root], dtype=np.int64),
            digest,
            compared,
            dict(self._left_out.counts),
        )


def _ahead(
    pool: ThreadPoolExecutor, folders: Iterable[tuple[str, tuple[str, ...]]]
) -> Iterator[Future[_Folder]]:
    """Looks into folders ahead of their use, but only a few, to bound memory."""
    pending: deque[Future[_Folder]] = deque()
    for path, parts in folders:
        pending.append(pool.submit(_look, path, parts))
        if len(pending) > THREADS:
            yield pending.popleft()
    while pending:
        yield pending.popleft()
