"""States of long jobs on the disk: whole or absent, and damage is noticed."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from gencond_fast.files import write_atomic

_DIGEST = 32  # bytes of SHA-256 at the end: damage that unpickling would not notice


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
    """What `save_state` wrote, on the CPU; None where it is missing, damaged or no such state."""
    content = _intact(path)
    if content is None:
        return None
    try:
        values = torch.load(content, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError):  # of another version
        return None
    return values if isinstance(values, dict) else None


def _intact(path: Path) -> io.BytesIO | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    return io.BytesIO(body) if hashlib.sha256(body).digest() == digest else None
