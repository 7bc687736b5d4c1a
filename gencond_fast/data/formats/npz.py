"""NumPy .npz files, read row by row: neither compressed nor plain ones are ever loaded whole."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from gencond_fast.data.contract import MAX_IMAGES, Block, Split, runs
from gencond_fast.data.decode import MAX_PIXELS
from gencond_fast.errors import InputError

_SCAN_BYTES = 1 << 20
_COMPRESSED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that NumPy writes
_DEFLATED = 1100  # times smaller at most
_NAME_BYTES = 4096  # of a class


@dataclass(frozen=True, eq=False)
class NpzTable:
    """What is known of a file before its pixels are read; `shape` is that of `images`."""

    path: Path
    shape: tuple[int, ...]
    labels: np.ndarray
    classes: tuple[str, ...] | None


@dataclass(frozen=True)
class _Member:
    """An open array inside the archive, its header read and its data next."""

    stream: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    start: int


class NpzSplit(Split):
    """The images of one .npz file, streamed from the archive in ascending order."""

    def __init__(self, table: NpzTable, labels: np.ndarray) -> None:
        self._path = table.path
        self.labels = labels
        height, width, *channels = table.shape[1:]
        self.shape = (height, width, channels[0] if channels else 1)
        self.serial_bytes = math.prod(self.shape)

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        assert self.shape is not None
        row = math.prod(self.shape)
        with _open_zip(self._path) as archive, _open_member(archive, "images", self._path) as held:
            for first in range(0, len(indices), block):
                part = indices[first : first + block]
                pixels = np.empty((len(part), *self.shape), dtype=np.uint8)
                for start, stop in runs(part):
                    target = held.start + int(part[start]) * row
                    self._fill(held.stream, target, pixels[start:stop])
                yield pixels

    def pieces(self) -> np.ndarray:
        """See `Split.pieces`: what is compressed can only be read from its start."""
        return np.array([0, len(self)])

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"image {index} of {self._path}"

    def _fill(self, stream: IO[bytes], offset: int, out: np.ndarray) -> None:
        view = out.reshape(-1).data
        try:
            if stream.tell() != offset:
                stream.seek(offset)
            done = 0
            while done < len(view):
                piece = stream.read(min(len(view) - done, _SCAN_BYTES))
                if not piece:
                    raise EOFError("the array ends early")
                view[done : done + len(piece)] = piece
                done += len(piece)
        except Exception as error:  # parsers raise nearly anything on hostile bytes
            raise _damaged(self._path, error) from error


def read_npz(path: Path) -> NpzTable:
    """Reads the labels, the class names and the shape of the images of one .npz file.

    Raises:
        InputError: the file is no .npz archive, a key is missing, or a type, shape or length is
            not what `open_npz` asks for.
    """
    with _open_zip(path) as archive:
        names = archive.namelist()
        keys = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
        for key in ("images", "labels"):
            if key not in keys:
                found = ", ".join(sorted(keys)) or "none"
                raise InputError(
                    f"{path} has no array `{key}` (found: {found}); store `images` and `labels`."
                )
        shape = _check_images(archive, path)
        labels = _read_labels(archive, path, shape[0])
        classes = _read_classes(archive, path) if "classes" in keys else None
    return NpzTable(path, shape, labels, classes)


def _check_images(archive: zipfile.ZipFile, path: Path) -> tuple[int, ...]:
    with _open_member(archive, "images", path) as held:
        if held.dtype != np.uint8:
            note = " (and holds NaN)" if _has_nan(held) else ""
            raise InputError(
                f"{path}: `images` is {held.dtype}{note}; store pixels as uint8 from 0 to 255."
            )
        shape = held.shape
        fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
        if not fits or min(shape[1:]) < 1:
            raise InputError(
                f"{path}: `images` has the shape {shape}; store [N, H, W] or [N, H, W, 1 or 3], "
                "channels last."
            )
        if shape[0] > MAX_IMAGES or math.prod(shape[1:3]) > MAX_PIXELS:
            raise InputError(
                f"{path}: `images` has the shape {shape}; store at most {MAX_IMAGES:,} images of "
                f"{MAX_PIXELS:,} pixels."
            )
        if held.fortran:
            raise InputError(
                f"{path}: `images` is in Fortran order and cannot be streamed; "
                "store np.ascontiguousarray(images)."
            )
        return shape


def _read_labels(archive: zipfile.ZipFile, path: Path, count: int) -> np.ndarray:
    with _open_member(archive, "labels", path) as held:
        if held.dtype.kind not in "iu":
            note = " (and holds NaN)" if _has_nan(held) else ""
            raise InputError(f"{path}: `labels` is {held.dtype}{note}; store integer labels.")
        if held.shape != (count,):
            raise InputError(
                f"{path}: `labels` has the shape {held.shape} for {count} images; "
                "store one label per image."
            )
        return _read_all(held, path)


def _read_classes(archive: zipfile.ZipFile, path: Path) -> tuple[str, ...]:
    with _open_member(archive, "classes", path) as held:
        if held.dtype.kind not in "US" or len(held.shape) != 1 or held.dtype.itemsize > _NAME_BYTES:
            raise InputError(
                f"{path}: `classes` is {held.dtype} of shape {held.shape}; "
                "store a list of names, or leave it out."
            )
        names = _read_all(held, path)
        return tuple(np.char.decode(names) if held.dtype.kind == "S" else names.tolist())


def _read_all(held: _Member, path: Path) -> np.ndarray:
    try:
        data = held.stream.read()
    except Exception as error:
        raise _damaged(path, error) from error
    return np.frombuffer(data, dtype=held.dtype).reshape(held.shape)


def _has_nan(held: _Member) -> bool:
    if held.dtype.kind != "f":
        return False
    size = held.dtype.itemsize
    try:
        while data := held.stream.read(_SCAN_BYTES // size * size):
            if np.isnan(np.frombuffer(data[: len(data) // size * size], held.dtype)).any():
                return True
    except Exception:
        return False  # the array is refused all the same, for its type
    return False


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except PermissionError as error:
        raise InputError(f"{path} may not be read; give yourself permission.") from error
    except Exception as error:
        raise _damaged(path, error) from error
    with archive:
        yield archive


@contextmanager
def _open_member(archive: zipfile.ZipFile, key: str, path: Path) -> Iterator[_Member]:
    try:
        info = archive.getinfo(f"{key}.npy")
        _check_size(info, path)
        stream = archive.open(info)
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(stream)
    except Exception as error:
        raise _damaged(path, error) from error
    with stream:
        if dtype.hasobject:
            raise InputError(
                f"{path}: `{key}` holds pickled Python objects, which are never loaded; "
                "store a plain array of numbers or names."
            )
        start = stream.tell()
        if info.file_size - start != math.prod(shape) * dtype.itemsize:
            raise _damaged(path, f"`{key}` is not as long as its header says")
        yield _Member(stream, shape, dtype, fortran, start)


def _check_size(info: zipfile.ZipInfo, path: Path) -> None:
    """Raises ValueError where a member claims more than the file can hold."""
    if info.compress_type not in _COMPRESSED:
        raise ValueError(f"{info.filename} is compressed in another way than NumPy's")
    most = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else _DEFLATED)
    if info.compress_size > path.stat().st_size or info.file_size > most:
        raise ValueError(f"{info.filename} claims more than the file holds")


def _damaged(path: Path, reason: object) -> InputError:
    return InputError(f"{path} is damaged or no .npz file ({reason}); write it again.")
