"""Checkpoints: complete, whole or absent, the last two kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gencond_fast.condensation.state import materialise, open_state, save_state

CHECKPOINTS = "checkpoint"  # the folder in a run directory
_KEPT = 2
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
        average: state of the average of the stored set; empty where there is none, and in
            checkpoints from before there was one.
        stage: what the stage that `step` lies in has learnt beside the stored set; likewise.
    """

    step: int
    fingerprint: str
    spec: dict[str, Any]
    store: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint atomically, then drops the ones before the previous.

    Raises:
        OSError: the directory cannot be written or the disk is full; older ones stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_state(directory / f"step-{checkpoint.step:08d}.pt", vars(checkpoint))
    for old in _newest_first(directory)[_KEPT:]:
        old.unlink()


def load_checkpoint(
    directory: Path, tell: Callable[[str], None] = lambda line: None
) -> Checkpoint | None:
    """As `open_checkpoint`, its tensors in memory, on the CPU."""
    found = open_checkpoint(directory, tell)
    return found and Checkpoint(**materialise(vars(found)))


def open_checkpoint(
    directory: Path, tell: Callable[[str], None] = lambda line: None
) -> Checkpoint | None:
    """The newest checkpoint that can be read as it was written, None where there is none.

    Its tensors are still to be fetched (`state.LazyTensor`), while it is among the last two.

    Args:
        directory: of checkpoints.
        tell: called with a line about each newer one, which cannot be read.
    """
    for path in _newest_first(directory):
        values = open_state(path)
        if values is not None and _is_checkpoint(values):
            return Checkpoint(**values)
        tell(f"{path} is damaged or of another version: not used")
    return None


def _is_checkpoint(values: dict[str, Any]) -> bool:
    kinds = {"step": int, "fingerprint": str, "spec": dict, "store": dict, "optimizer": dict}
    values = {"average": {}, "stage": {}} | values
    kinds |= {"average": dict, "stage": dict}
    return values.keys() == kinds.keys() and all(
        isinstance(values[name], kind) for name, kind in kinds.items()
    )


def _newest_first(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted((p for p in directory.iterdir() if _NAME.fullmatch(p.name)), reverse=True)
