"""`open_source`: from what the user calls the data to splits that can be streamed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from gencond_fast.data.arrays import open_digits, open_npz
from gencond_fast.data.contract import Opened, Split, Subset
from gencond_fast.data.decode import fetch, header
from gencond_fast.data.folder import open_folder
from gencond_fast.data.labels import stratified_split
from gencond_fast.data.parquet import open_parquet
from gencond_fast.data.tar import open_tar
from gencond_fast.data.tree import VAL_NAMES
from gencond_fast.errors import InputError

__all__ = ["KNOWN_NAMES", "Source", "Split", "open_source"]

KNOWN_NAMES: dict[str, Callable[[], Opened]] = {"digits": open_digits}

_KINDS = (
    "give a folder of class folders, a .tar of one, .parquet files, a .npz file, or a known "
    f"name ({', '.join(KNOWN_NAMES)})"
)
_COMPRESSED = (".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z")
_HEADERS_AT_ONCE = 64
_FINGERPRINT_DIGITS = 32


@dataclass(frozen=True, eq=False)
class Source:
    """A data set, opened: labels in memory, images on demand.

    Attributes:
        location: what the user called it.
        class_names: the name of label k at place k.
        channels: 1 if every image is gray, else 3.
        train: the training split.
        val: the validation split, or None.
        fingerprint: 32 hex digits that change with the data (files by name, size and time of
            modification, arrays by content) and with the split.
        native_size: shorter side of the first training image.
    """

    location: str
    class_names: tuple[str, ...]
    channels: int
    train: Split
    val: Split | None
    fingerprint: str
    native_size: int


def open_source(data: str, *, val_fraction: float | None = None, seed: int = 0) -> Source:
    """Opens a data set by path or name, reading labels and as few image headers as it can.

    Kinds: a folder `train/CLASS/*` with `val`, `validation` or `test` beside it, or just
    `CLASS/*`; an uncompressed `.tar` of such a folder; a folder or file of parquet in the hub's
    layout; a `.npz` file or a folder with `train.npz`; a known name (`digits`, while `./digits`
    is a folder). Where a source
    has more than one validation split, `val` goes before `validation` and `test`.

    Memory: 8 bytes an image for labels and 16 to 70 for finding it (file names are the most of
    it), none for pixels.

    Args:
        data: path or known name.
        val_fraction: share of every class to set apart for validation, 0 < share < 1, for a
            source that has no validation split of its own.
        seed: chooses which images are set apart.

    Raises:
        InputError: one sentence that names what is wrong and what to do.
    """
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise InputError(
            f"val_fraction is {val_fraction}; choose a share between 0 and 1, such as 0.1."
        )
    opened = KNOWN_NAMES[data]() if data in KNOWN_NAMES else _open_path(data)
    if len(opened.class_names) < 2:
        raise InputError(
            f"{data} has only one class, {opened.class_names[0]!r}; add images of another."
        )
    train, val, digest = opened.train, opened.val, opened.digest
    if val_fraction is not None:
        train, val = _set_apart(opened, data, val_fraction, seed)
        digest = hashlib.sha256(f"{digest} {val_fraction!r} {seed}".encode()).hexdigest()
    channels, native_size = _inspect(opened)
    return Source(
        location=data,
        class_names=opened.class_names,
        channels=channels,
        train=train,
        val=val,
        fingerprint=digest[:_FINGERPRINT_DIGITS],
        native_size=native_size,
    )


def _open_path(data: str) -> Opened:
    path = Path(data).expanduser()
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


def _set_apart(opened: Opened, data: str, fraction: float, seed: int) -> tuple[Split, Split]:
    if opened.val is not None:
        raise InputError(
            f"{data} has a validation split of its own; leave val_fraction out to use it."
        )
    kept, apart = stratified_split(opened.train.labels, fraction, seed)
    if len(apart) == 0:
        raise InputError(
            f"{data} has one image of each class, so val_fraction {fraction} cannot set any "
            "apart; add images or leave val_fraction out."
        )
    return Subset(opened.train, kept), Subset(opened.train, apart)


def _inspect(opened: Opened) -> tuple[int, int]:
    """Returns (channels, shorter side of the first image), reading up to the first colour image."""
    native_size = 0
    for split in (opened.train, opened.val):
        if split is None:
            continue
        if split.shape is not None:
            native_size = native_size or min(split.shape[:2])
            if split.shape[2] == 3:
                return 3, native_size
            continue
        order = np.arange(len(split))
        with closing(split.read(order, _HEADERS_AT_ONCE)) as blocks:
            for index, item in enumerate(chain.from_iterable(blocks)):
                where = split.where(index)
                gray, short = header(fetch(item, where), where)
                native_size = native_size or short
                if not gray:
                    return 3, native_size
    return 1, native_size
