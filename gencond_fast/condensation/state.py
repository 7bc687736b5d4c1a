"""States of long jobs on the disk: whole or absent, and damage is noticed."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gencond_fast.files import write_atomic

_DIGEST = 32  # bytes of SHA-256 at the end: damage that unpickling would not notice
_ZIP = b"PK\x03\x04"  # the one format of `torch.save` that is read
_PART = 2**20  # bytes


def save_state(path: Path, values: dict[str, Any]) -> None:
    """Writes tensors and plain values atomically, without a second copy of them in memory.

    Raises:
        OSError: the directory cannot be written or the disk is full; an older state stays.
    """
    write_atomic(path, lambda temporary: _write(temporary, values))


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, on the CPU; None where it is missing, damaged or no such state.

    Nothing in it is executed: `weights_only` builds tensors and plain values alone.
    """
    try:
        with path.open("rb") as file:
            length = _intact_length(file)
            if length is None:
                return None
            values = torch.load(
                io.BufferedReader(_Beginning(file, length)), map_location="cpu", weights_only=True
            )
    except Exception:  # of another version, or made by hand: unpickling raises what it likes
        return None
    return values if isinstance(values, dict) else None


def _write(path: Path, values: dict[str, Any]) -> None:
    with path.open("wb") as file:
        hashed = _Hashed(file)
        torch.save(values, hashed)  # type: ignore[arg-type]  # it writes and flushes
        if hashed.error:
            raise hashed.error
        file.write(hashed.digest.digest())


class _Hashed:
    """A file to write to that hashes what it gets, and keeps an error to itself.

    One that is raised within `torch.save` would come out of it as another one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.error = error
        self.digest.update(content)
        return len(content)

    def flush(self) -> None:
        """What is left is written when the file is closed."""


class _Beginning(io.RawIOBase):
    """The first bytes of a file, as a file."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._length, self._place = file, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._place)
        most = max(0, min(len(buffer), self._length - self._place))
        count = self._file.readinto(memoryview(buffer)[:most])  # type: ignore[attr-defined]
        self._place += count
        return count


def _intact_length(file: BinaryIO) -> int | None:
    """Bytes before the digest, if there is one of them; the file must be at its begin."""
    length = os.fstat(file.fileno()).st_size - _DIGEST
    digest, left = hashlib.sha256(), length
    first = file.read(len(_ZIP))
    if first != _ZIP or length < len(_ZIP):
        return None
    digest.update(first)
    left -= len(first)
    while left:
        part = file.read(min(_PART, left))
        if not part:
            return None
        digest.update(part)
        left -= len(part)
    return length if digest.digest() == file.read() else None
