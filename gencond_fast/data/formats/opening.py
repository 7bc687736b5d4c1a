"""From a path or a known name to the data format that opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gencond_fast.data.contract import Opened
from gencond_fast.data.formats.arrays import open_digits, open_npz
from gencond_fast.data.formats.arrow import open_arrow
from gencond_fast.data.formats.finding import Found, find_files, holds_images
from gencond_fast.data.formats.folder import open_folder
from gencond_fast.data.formats.parquet import open_parquet
from gencond_fast.data.formats.tar import open_tar, read_archives
from gencond_fast.data.formats.webdataset import is_webdataset, not_shards, open_webdataset
from gencond_fast.errors import InputError
from gencond_fast.system.files import expanded

KNOWN_NAMES: dict[str, Callable[[], Opened]] = {"digits": open_digits}

_KINDS = (
    "give a folder of class folders, a .tar of one, shards of a WebDataset, .parquet files, a "
    "folder of save_to_disk, a .npz file, or a known "
    f"name ({', '.join(KNOWN_NAMES)})"
)
_COMPRESSED = (".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z")


def open_data(data: str, label_column: str | None = None) -> Opened:
    """Opens a data set by path or known name, as its container stores it; see `open_source`.

    Args:
        data: path or known name.
        label_column: the column of labels of a table; None looks for one.

    Raises:
        InputError: the data cannot be used. Its sentence says what is wrong and what to do.
    """
    if not data.strip():
        raise InputError(f"the data is {data!r}, which is no path; {_KINDS}.")
    return KNOWN_NAMES[data]() if data in KNOWN_NAMES else _open_path(data, label_column)


def _open_path(data: str, label_column: str | None) -> Opened:
    path = expanded(data)
    try:
        if path.is_dir():
            return _open_directory(path, label_column)
        if not path.exists():
            raise InputError(f"{data} does not exist; {_KINDS}.")
    except OSError as error:
        raise InputError(f"{data} cannot be read ({error.strerror}); repair it.") from error
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return open_tar(path)
    if suffix == ".parquet":
        return open_parquet(Found([path], {}), path.parent, label_column)
    if suffix == ".arrow":
        return open_arrow(Found([path], {}), path.parent, label_column)
    if suffix == ".npz":
        return open_npz(Found([path], {}), path.parent)
    if suffix in _COMPRESSED:
        raise InputError(
            f"{data} is compressed and cannot be read image by image; extract it, or make it an "
            "uncompressed .tar."
        )
    raise InputError(f"{data} is no known kind of data; {_KINDS}.")


def _open_directory(path: Path, label_column: str | None) -> Opened:
    found = find_files(path, ".parquet")
    if found is not None:
        return open_parquet(found, path, label_column)
    found = find_files(path, ".arrow")
    if found is not None:
        return open_arrow(found, path, label_column)
    found = find_files(path, ".npz")
    if found is not None:
        return open_npz(found, path)
    found = find_files(path, ".tar")
    if found is not None and not holds_images(path):  # an archive may lie beside what was in it
        return _open_shards(found, path)
    return open_folder(path)


def _open_shards(found: Found, root: Path) -> Opened:
    """Opens archives that are shards of a WebDataset; a single other one is opened by itself."""
    if not found.tests and len(found.train) == 1:
        opened = open_tar(found.train[0])
        return replace(opened, notes=(*found.notes, *opened.notes))
    train = read_archives(found.train)
    tests = {name: read_archives(files) for name, files in found.tests.items()}
    every = [*train, *(shard for shards in tests.values() for shard in shards)]
    if not all(is_webdataset(shard) for shard in train):
        raise not_shards(root, every)
    return open_webdataset(train, tests, root, found.notes)
