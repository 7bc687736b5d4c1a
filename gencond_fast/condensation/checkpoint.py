"""Checkpoints: complete, whole or absent, the last two kept."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gencond_fast.files import write_atomic

CHECKPOINTS = "checkpoint"  # the folder in a run directory
_KEPT = 2
_DIGEST = 32  # bytes of SHA-256 at the end: damage that unpickling would not notice
_NAME = re.compile(r"step-(\d+)\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the steps to come depend on.

    Random numbers and the order of the data are functions of (seed, step), so they need no place
    of their own.

    Attributes:
        step: steps done, over all stages.
        fingerprint: of the data.
        spec: sizes of the stored set, as plain values.
        store: state of the stored set.
        optimizer: state of the optimiser, of the stage that `step` lies in.
    """

    step: int
    fingerprint: str
    spec: dict[str, Any]
    store: dict[str, Any]
    optimizer: dict[str, Any]


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint atomically, then drops the ones before the previous.

    Raises:
        OSError: the directory cannot be written or the disk is full; older ones stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"step-{checkpoint.step:08d}.pt"
    content = io.BytesIO()  # to a path torch.save would not raise OSError when the disk is full
    torch.save(vars(checkpoint), content)
    content.write(hashlib.sha256(content.getbuffer()).digest())
    write_atomic(path, lambda temporary: temporary.write_bytes(content.getbuffer()))
    for old in _newest_first(directory)[_KEPT:]:
        old.unlink()


def load_checkpoint(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read as it was written, None where there is none."""
    for path in _newest_first(directory):
        content = _intact(path)
        if content is None:
            continue
        try:
            return Checkpoint(**torch.load(content, map_location="cpu", weights_only=True))
        except (RuntimeError, TypeError, pickle.UnpicklingError):  # of another version
            continue
    return None


def _intact(path: Path) -> io.BytesIO | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    return io.BytesIO(body) if hashlib.sha256(body).digest() == digest else None


def _newest_first(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted((p for p in directory.iterdir() if _NAME.fullmatch(p.name)), reverse=True)
