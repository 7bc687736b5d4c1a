"""Which reader decodes: what was asked for, or what is fastest on this machine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gencond_fast.config import Device, ReaderName
from gencond_fast.data.contract import Split
from gencond_fast.data.readers.batch import Reader
from gencond_fast.data.readers.processes import read_in_processes
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.errors import InputError
from gencond_fast.system.machine import own_cores

# On two cores two processes decode faster than two threads what is small, and as fast what is large
# (docs/benchmarks/reading.md); on one core they are slower, for images are sent to them.
_CORES_FOR_PROCESSES = 2


def choose_reader(
    wanted: ReaderName, splits: list[Split], device: Device, tell: Callable[[str], None]
) -> None:
    """Sets the reader of splits, and says in a line which it is and why.

    Where images are stored as pixels there is nothing to decode, and nothing is said.

    Args:
        wanted: a reader, or `auto`: DALI where there is a GPU for it to decode on, else Pillow.
        splits: of one data set.
        device: on which the images are wanted; for `cpu`, `auto` leaves a GPU alone.
        tell: called with the line.

    Raises:
        InputError: DALI is asked for and cannot be used.
    """
    encoded = [split for split in splits if split.shape is None]
    if not encoded:
        return
    name, reason = _chosen(wanted, device)
    for split in encoded:
        split.reader = name
    how = "DALI" if name == "dali" else f"Pillow in {own_cores()} {name}"
    tell(f"images: read with {how} ({reason}; --reader changes it)")


def reader_of(split: Split) -> Reader:
    """The reader that was chosen for a split."""
    if split.reader == "dali":
        from gencond_fast.data.readers.dali import read_with_dali  # takes seconds to import

        return read_with_dali
    return read_in_processes if split.reader == "processes" else read_in_threads


def _chosen(wanted: ReaderName, device: Device) -> tuple[str, str]:
    """The reader and the reason for it."""
    if wanted == "dali":
        obstacle = _dali_obstacle()
        if obstacle is not None:
            raise InputError(
                f"option 'reader' is dali, but DALI is not used: {obstacle}: use --reader auto"
            )
    if wanted != "auto":
        return wanted, "as asked for"
    obstacle = None
    if device != "cpu" and torch.cuda.is_available():
        obstacle = _dali_obstacle()
        if obstacle is None:
            return "dali", "on the GPU"
    cores = own_cores()
    name = "processes" if cores >= _CORES_FOR_PROCESSES else "threads"
    why = f"{cores} {'core' if cores == 1 else 'cores'}"
    return name, why if obstacle is None else f"{why}; DALI is not used: {obstacle}"


def _dali_obstacle() -> str | None:
    from gencond_fast.data.readers.dali import dali_obstacle

    return dali_obstacle()
