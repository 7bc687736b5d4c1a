"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gencond_fast.errors import InputError


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder in place of `~`.

    Raises:
        InputError: there is no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"{os.fspath(path)!r} begins with ~, but there is no such home folder (is HOME set?): "
            "give the path in full"
        ) from None


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, then moves it into place.

    The content is on the disk before the name is; on any error the temporary file is removed
    and `path` is as it was.

    Raises:
        OSError: the directory cannot be written or the disk is full.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        write(temporary)
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = str(path)  # the name that the reader of the message knows
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to be filled, which becomes `path` at the end of the context and not before.

    On any error it is removed. `path` must not be there, or be an empty folder.

    Raises:
        OSError: the parent cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        made = temporary / "made"  # unlike its parent, with the permissions of any new folder
        made.mkdir()
        yield made
        made.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomic(path, lambda temporary: _write(temporary, text))


def write_json(path: Path, values: Any) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
