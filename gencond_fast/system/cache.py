"""Where results that later runs reuse are kept, and how they are named."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gencond_fast._version import __version__
from gencond_fast.errors import InputError
from gencond_fast.system.files import write_atomic, write_json

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_CHECK = "crc32"  # of the content: a flipped bit is damage that neither format notices


class UnwritableCache(InputError, OSError):
    """The cache may not be written; the text names the variable that chooses another place."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        raise UnwritableCache(
            f"the cache {path} cannot be written ({error.strerror}): set GENCOND_FAST_CACHE to a "
            "folder that can"
        ) from error


def cache_directory(kind: str) -> Path:
    """`$GENCOND_FAST_CACHE/kind`, else `$XDG_CACHE_HOME` or `~/.cache`; made if missing.

    A user without a home folder has it among the temporary files.

    Raises:
        UnwritableCache: it cannot be made.
    """
    chosen = os.environ.get("GENCOND_FAST_CACHE")
    directory = (Path(chosen) if chosen else _usual_place()) / kind
    with _naming(directory):
        directory.mkdir(parents=True, exist_ok=True)
    return directory


def _usual_place() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(caches or Path.home() / ".cache") / "gencond_fast"
    except RuntimeError:  # neither HOME nor an entry for the user id, as in some containers
        place = Path(tempfile.gettempdir()) / f"gencond_fast-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
        if place.stat().st_uid != os.getuid():
            raise PermissionError(errno.EACCES, "it belongs to another user", str(place)) from None
        return place


def cache_key(**parts: Any) -> str:
    """24 hex digits that change when any part, or the program's version, does."""
    text = json.dumps({"version": __version__, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def load_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a cache file, None where there is none or it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get(_CHECK)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    # files from before there were checks have none
    return tensors if stated in (None, _check_of(tensors)) else None


def is_whole(path: Path) -> bool:
    """Whether there is a cache file and it is undamaged."""
    return bool(load_tensors(path))


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a cache file atomically, so that runs side by side never see half of one.

    Raises:
        OSError: the cache cannot be written or the disk is full.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # save_file would not raise OSError when the disk is full
    content = save(plain, {_CHECK: _check_of(plain)})
    with _naming(path):
        write_atomic(path, lambda temporary: temporary.write_bytes(content))


def load_json(path: Path) -> Any:
    """The values of a cache file, None where there is none or it is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or _CHECK not in found:
        return found  # from before there were checks
    values = found.get("values")
    return values if found[_CHECK] == _check_of_json(values) else None


def save_json(path: Path, values: Any) -> None:
    """Writes a cache file of plain values atomically.

    Raises:
        OSError: the cache cannot be written or the disk is full.
    """
    with _naming(path):
        write_json(path, {_CHECK: _check_of_json(values), "values": values})


def _check_of(tensors: dict[str, Tensor]) -> str:
    """Of names, types, shapes and bytes."""
    check = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        check = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), check)
        check = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, check)
    return f"{check:08x}"


def _check_of_json(values: Any) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


@contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Keeps processes that make the same cache file from doing so at the same time.

    It saves work, correctness does not hang on it: files are written atomically, so where the file
    system knows no locks the work is done twice. The lock ends with the process.

    Args:
        path: what is to be made; the lock is a file beside it.
        waiting: called once if another process has to be waited for.
    """
    lock = FileLock(path.with_suffix(".lock"))
    # an OSError is of a file system that knows no locks
    with suppress(OSError):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    try:
        yield
    finally:
        # who waits for a file that was removed under it opens a new one
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
