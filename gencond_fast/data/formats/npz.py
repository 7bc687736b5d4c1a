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
from gencond_fast.data.formats.array_names import Form, Pair, form_of, sort_arrays
from gencond_fast.data.formats.splits import words_of
from gencond_fast.data.text import clean_name
from gencond_fast.errors import InputError

_SCAN_BYTES = 1 << 20
_COMPRESSED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that NumPy writes
_DEFLATED = 1100  # times smaller at most
_NAME_BYTES = 4096  # of a class


@dataclass(frozen=True, eq=False)
class NpzImages:
    """The images and labels of one split, of which no pixels have been read.

    Attributes:
        path: of the file.
        key: the name of the array of images.
        form: how an image lies in it.
        labels: integer [N], or texts.
    """

    path: Path
    key: str
    form: Form
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class NpzTable:
    """What is known of a file before its pixels are read.

    Attributes:
        train: the training split, or all there is.
        tests: the splits to test on by name.
        classes: the class names, or None.
        unread: names of the arrays that are not read.
    """

    train: NpzImages
    tests: dict[str, NpzImages]
    classes: tuple[str, ...] | None
    unread: tuple[str, ...]


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

    def __init__(self, table: NpzImages, labels: np.ndarray) -> None:
        self._path, self._key = table.path, table.key
        self.labels = labels
        self.shape = table.form.shape
        self._planar = table.form.planar
        self.serial_bytes = math.prod(self.shape)

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        assert self.shape is not None
        row = math.prod(self.shape)
        height, width, channels = self.shape
        stored = (channels, height, width) if self._planar else self.shape
        with _open_zip(self._path) as archive, _open_member(archive, self._key, self._path) as held:
            for first in range(0, len(indices), block):
                part = indices[first : first + block]
                pixels = np.empty((len(part), *stored), dtype=np.uint8)
                for start, stop in runs(part):
                    target = held.start + int(part[start]) * row
                    self._fill(held.stream, target, pixels[start:stop])
                yield np.moveaxis(pixels, 1, 3) if self._planar else pixels

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
    """Reads the labels, the class names and the shapes of the images of one .npz file.

    Raises:
        InputError: the file is no .npz archive, arrays are missing, or a type, shape or length is
            not what `open_npz` asks for.
    """
    with _open_zip(path) as archive:
        names = archive.namelist()
        found = sort_arrays(name.removesuffix(".npy") for name in names if name.endswith(".npy"))
        if found.train is None:
            plain = [name for name in found.unread if "/" not in name]
            have = {words[-1] for name in plain if (words := words_of(name))}
            missing = "labels" if have & {"images", "x"} else "images"
            raise InputError(
                f"{path} has no array `{missing}` (found: {', '.join(found.unread) or 'none'}); "
                "store `images` and `labels`."
            )
        classes = None if found.classes is None else _read_classes(archive, path, found.classes)
        train = _read_split(archive, path, found.train)
        tests = {name: _read_split(archive, path, pair) for name, pair in found.tests.items()}
    return NpzTable(train, tests, classes, found.unread)


def _read_split(archive: zipfile.ZipFile, path: Path, pair: Pair) -> NpzImages:
    shape, form = _check_images(archive, path, pair.images)
    return NpzImages(path, pair.images, form, _read_labels(archive, path, pair.labels, shape[0]))


def _check_images(archive: zipfile.ZipFile, path: Path, key: str) -> tuple[tuple[int, ...], Form]:
    with _open_member(archive, key, path) as held:
        if held.dtype != np.uint8:
            note = " (and holds NaN)" if _has_nan(held) else ""
            raise InputError(
                f"{path}: `{key}` is {held.dtype}{note}; store pixels as uint8 from 0 to 255."
            )
        shape, form = held.shape, form_of(held.shape)
        if form is None:
            raise InputError(
                f"{path}: `{key}` has the shape {shape}; store [N, H, W] or [N, H, W, 1 or 3], "
                "channels last."
            )
        if shape[0] > MAX_IMAGES or math.prod(form.shape[:2]) > MAX_PIXELS:
            raise InputError(
                f"{path}: `{key}` has the shape {shape}; store at most {MAX_IMAGES:,} images of "
                f"{MAX_PIXELS:,} pixels."
            )
        if held.fortran:
            raise InputError(
                f"{path}: `{key}` is in Fortran order and cannot be streamed; "
                f"store np.ascontiguousarray({key})."
            )
        return shape, form


def _read_labels(archive: zipfile.ZipFile, path: Path, key: str, count: int) -> np.ndarray:
    with _open_member(archive, key, path) as held:
        if held.dtype.kind not in "iubUS" or held.dtype.itemsize > _NAME_BYTES:
            note = " (and holds NaN)" if _has_nan(held) else ""
            raise InputError(f"{path}: `{key}` is {held.dtype}{note}; store integer labels.")
        if held.shape not in ((count,), (count, 1)):
            raise InputError(
                f"{path}: `{key}` has the shape {held.shape} for {count} images; "
                "store one label per image."
            )
        return _read_all(held, path).reshape(count)


def _read_classes(archive: zipfile.ZipFile, path: Path, key: str) -> tuple[str, ...]:
    with _open_member(archive, key, path) as held:
        if held.dtype.kind not in "US" or len(held.shape) != 1 or held.dtype.itemsize > _NAME_BYTES:
            raise InputError(
                f"{path}: `{key}` is {held.dtype} of shape {held.shape}; "
                "store a list of names, or leave it out."
            )
        return tuple(clean_name(name) for name in _read_all(held, path).tolist())


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
