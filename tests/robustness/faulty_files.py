"""Files that go wrong: one chosen operation of a process on files fails, or is its last.

What is counted is all that changes a folder: opening for writing, every write, fsync, renaming, and
making folders. Removing is not: a full disk lets files be removed.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

Fault = Callable[[str], None]
"""Called with the name of an operation before it is done; may raise, or end the process."""


@contextmanager
def faulty(root: Path, fault: Fault) -> Iterator[None]:
    """Within it `fault` is called before each operation on files below `root`.

    A write is half done by then, so that what is left is torn.
    """
    inside = f"{root}{os.sep}"

    def concerns(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and str(path).startswith(inside)

    opened, made, moved, synced = os.open, os.mkdir, os.replace, os.fsync
    file_opened = io.open

    def open_handle(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if concerns(path) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            fault(f"open {_shown(path)}")
        return opened(path, flags, *more, **named)

    def make_folder(path: Any, *more: Any, **named: Any) -> None:
        if concerns(path) and not os.path.isdir(path):
            fault(f"mkdir {_shown(path)}")
        made(path, *more, **named)

    def move(source: Any, target: Any, **named: Any) -> None:
        if concerns(target):
            fault(f"rename {_shown(target)}")
        moved(source, target, **named)

    def sync(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if concerns(path):
            fault(f"fsync {_shown(path)}")
        synced(handle)

    def open_file(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **named: Any) -> Any:
        if not concerns(file) or not set(mode) & set("wax+"):
            return file_opened(file, mode, buffering, *text, **named)
        fault(f"open {_shown(file)}")
        raw = _Torn(os.fspath(file), mode.translate({ord("b"): None, ord("t"): None}), fault)
        binary = io.BufferedRandom(raw) if raw.readable() else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, *text, **named)

    with (
        mock.patch.object(os, "open", open_handle),
        mock.patch.object(os, "mkdir", make_folder),
        mock.patch.object(os, "replace", move),
        mock.patch.object(os, "fsync", sync),
        mock.patch.object(io, "open", open_file),
        mock.patch.object(builtins, "open", open_file),
    ):
        yield


class _Torn(io.FileIO):
    """A file of which a faulty write leaves the first half."""

    def __init__(self, path: str, mode: str, fault: Fault) -> None:
        super().__init__(path, mode)
        self._fault = fault
        self._name = _shown(path)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = len(view) // 2
        first = super().write(view[:half])
        self._fault(f"write {self._name}")
        return first + super().write(view[half:]) if first == half else first


def _shown(path: Any) -> str:
    """The file that is meant, where a temporary one beside it is written."""
    place = Path(path)
    kept = place.name[1:].rsplit(".", 1)[0] if place.name.startswith(".") else place.name
    return f"{place.parent.name}/{kept}"
