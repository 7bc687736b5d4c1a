"""From a path or a known name to the data format that opens it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from gencond_fast.data.contract import Opened
from gencond_fast.data.formats.arrays import open_digits, open_npz
from gencond_fast.data.formats.folder import open_folder
from gencond_fast.data.formats.parquet import open_parquet
from gencond_fast.data.formats.tar import open_tar
from gencond_fast.data.formats.tree import VAL_NAMES
from gencond_fast.errors import InputError
from gencond_fast.system.files import expanded

KNOWN_NAMES: dict[str, Callable[[], Opened]] = {"digits": open_digits}

_KINDS = (
    "give a folder of class folders, a .tar of one, .parquet files, a .npz file, or a known "
    f"name ({', '.join(KNOWN_NAMES)})"
)
_COMPRESSED = (".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z")


def open_data(data: str) -> Opened:
    """Opens a data set by path or known name, as its container stores it; see `open_source`.

    Raises:
        InputError: the data cannot be used. Its sentence says what is wrong and what to do.
    """
    return KNOWN_NAMES[data]() if data in KNOWN_NAMES else _open_path(data)


def _open_path(data: str) -> Opened:
    path = expanded(data)
    try:
        if path.is_dir():
            return _open_directory(path)
        if not path.exists():
            raise InputError(f"{data} does not exist; {_KINDS}.")
    except OSError as error:
        raise InputError(f"{data} cannot be read ({error.strerror}); repair it.") from error
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return open_tar(path)
    if suffix == ".parquet":
        return open_parquet([path], [], path.parent)
    if suffix == ".npz":
        return open_npz(path, None, path.parent)
    if suffix in _COMPRESSED:
        raise InputError(
            f"{data} is compressed and cannot be read image by image; extract it, or make it an "
            "uncompressed .tar."
        )
    raise InputError(f"{data} is no known kind of data; {_KINDS}.")


def _open_directory(path: Path) -> Opened:
    for folder in (path, path / "data"):  # the hub keeps its parquet files in data/
        files = _visible(folder, ".parquet")
        if files:
            train, val = _by_split(files, folder)
            return open_parquet(train, val, folder)
    arrays = _visible(path, ".npz")
    if arrays:
        train, val = _by_split(arrays, path)
        if len(train) > 1 or len(val) > 1:
            raise InputError(
                f"{path} holds several .npz files for one split; keep one train.npz and one "
                "val.npz or test.npz."
            )
        return open_npz(train[0], val[0] if val else None, path)
    return open_folder(path)


def _visible(folder: Path, suffix: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() == suffix and not file.name.startswith(".")
    )


def _by_split(files: list[Path], folder: Path) -> tuple[list[Path], list[Path]]:
    """Sorts files into train and validation by the first word of their names."""
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(re.split(r"[-_.]", file.name)[0], []).append(file)
    val = next((named[name] for name in VAL_NAMES if name in named), [])
    if "train" in named:
        return named["train"], val
    if val:
        raise InputError(
            f"{folder} holds {val[0].name} but no training file; add train{val[0].suffix} or "
            "give that file itself as the data."
        )
    return files, []
