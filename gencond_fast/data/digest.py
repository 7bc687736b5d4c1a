"""Whether two copies of data are the same: by their contents, wherever and whenever they were made.

Small data is compared whole. Of large data the names, the sizes and samples of the contents are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from gencond_fast.errors import InputError

WHOLE_BYTES = 128 * 1024**2
_MOST_FILES = 100_000  # that are read whole
_SAMPLED_FILES = 1000
_SAMPLED_PLACES = 64  # in each of a few large files
_SAMPLE_BYTES = 1 << 14

BY_CONTENTS = "names and contents"
BY_SAMPLES = "names, sizes and samples of the contents"


def files_digest(files: Sequence[Path], root: Path) -> tuple[str, str]:
    """The digest of a few files that hold many images each, and what was compared.

    Args:
        files: in order.
        root: the folder that their names are relative to.

    Raises:
        InputError: a file cannot be read.
    """
    sizes = [file.stat().st_size for file in files]
    digest, whole = hashlib.sha256(), sum(sizes) <= WHOLE_BYTES
    for file, size in zip(files, sizes, strict=True):
        name = str(file.relative_to(root)) if len(files) > 1 else ""  # one may be called anything
        digest.update(_entry(name, size))
        places = 1 if whole else _SAMPLED_PLACES
        _add(digest, file, size, places, size if whole else _SAMPLE_BYTES)
    return digest.hexdigest(), BY_CONTENTS if whole else BY_SAMPLES


def tree_digest(root: str, path_of: Callable[[int], str], sizes: np.ndarray) -> tuple[str, str]:
    """The digest of a tree of image files, and what was compared.

    Args:
        root: the tree.
        path_of: returns the path of a file below the root by its place.
        sizes: int64, in bytes, of all files in order.
    """
    digest = hashlib.sha256()
    whole = int(sizes.sum()) <= WHOLE_BYTES and len(sizes) <= _MOST_FILES
    rows = np.arange(len(sizes))
    sampled = (
        rows if whole else np.unique(np.linspace(0, len(sizes) - 1, _SAMPLED_FILES, dtype=int))
    )
    for row, size in enumerate(sizes.tolist()):
        digest.update(_entry(path_of(row), size))
    for row in sampled.tolist():
        size = int(sizes[row])
        # who reads it hears about a file that may not be read
        with suppress(InputError):
            _add(digest, Path(root, path_of(row)), size, 1, size if whole else _SAMPLE_BYTES)
    return digest.hexdigest(), BY_CONTENTS if whole else BY_SAMPLES


def _entry(path: str, size: int) -> bytes:
    return os.fsencode(f"{path}\0{size}\n")


def _add(digest: Any, file: Path, size: int, places: int, length: int) -> None:
    """Adds `length` bytes at evenly spread places of a file, the last of which ends with it."""
    try:
        with file.open("rb") as stream:
            for start in _spread(size, places, length):
                stream.seek(start)
                digest.update(stream.read(length))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); repair it.") from error


def _spread(size: int, places: int, length: int) -> Iterable[int]:
    last = max(size - length, 0)
    return sorted({last * place // max(places - 1, 1) for place in range(places)})
