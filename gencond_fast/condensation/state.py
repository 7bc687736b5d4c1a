"""States of long jobs on the disk: whole or absent, and damage is noticed."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from gencond_fast.files import write_atomic

_DIGEST = 32  # bytes of SHA-256 at the end: damage that unpickling would not notice
_ZIP = b"PK\x03\x04"  # the one format of `torch.save` that is read


def save_state(path: Path, values: dict[str, Any]) -> None:
    """Writes tensors and plain values atomically.

    Raises:
        OSError: the directory cannot be written or the disk is full; an older state stays.
    """
    content = io.BytesIO()  # to a path torch.save would not raise OSError when the disk is full
    torch.save(values, content)
    content.write(hashlib.sha256(content.getbuffer()).digest())
    write_atomic(path, lambda temporary: temporary.write_bytes(content.getbuffer()))


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, on the CPU; None where it is missing, damaged or no such state.

    Nothing in it is executed: `weights_only` builds tensors and plain values alone.
    """
    content = _intact(path)
    if content is None:
        return None
    try:
        values = torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # of another version, or made by hand: unpickling raises what it likes
        return None
    return values if isinstance(values, dict) else None


def _intact(path: Path) -> io.BytesIO | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    intact = body.startswith(_ZIP) and hashlib.sha256(body).digest() == digest
    return io.BytesIO(body) if intact else None
