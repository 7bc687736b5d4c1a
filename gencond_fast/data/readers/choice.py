"""Which reader decodes: the one asked for, or the fastest one on this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator

import torch

from gencond_fast.config import Device, ReaderName
from gencond_fast.data.readers.batch import Batch, Form, Pairs
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.readers.processes import read_in_processes
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.errors import InputError
from gencond_fast.system.machine import own_cores

Reader = Callable[[ImageReader, Form, Pairs, int], Iterator[Batch]]
"""Decodes the images of pairs into batches, in the same order, a few batches ahead of their use.

The last argument is the number of threads or processes. A reader ends them when its iterator is
closed or dropped, and calls no `Load` after that.

An undecodable image raises `BadImage` where the `ImageReader` has no `skip`. Else it is added to
`skip`, and the batch holds the other images of its part; a part of which nothing is left gives no
batch. A reader does not touch images that are in `skip` already.
"""

# On two cores, two processes decode small images faster than two threads, and large ones as fast
# (docs/benchmarks/reading.md). On one core they are slower, because images have to be sent to them.
_CORES_FOR_PROCESSES = 2


def choose_reader(wanted: ReaderName, device: Device, tell: Callable[[str], None]) -> str:
    """The reader for encoded images, and a line that says which it is and why.

    Args:
        wanted: a reader, or `auto`: DALI where there is a GPU that it can decode on, else Pillow.
        device: where the images are wanted. With `cpu`, `auto` does not use a GPU.
        tell: called with the line.

    Raises:
        InputError: DALI is asked for and cannot be used.
    """
    name, reason = _chosen(wanted, device)
    how = "DALI" if name == "dali" else f"Pillow in {own_cores()} {name}"
    tell(f"images: read with {how} ({reason}; --reader changes it)")
    return name


def reader_of(images: ImageReader) -> Reader:
    """The function behind `ImageReader.reader`."""
    if images.reader == "dali":
        from gencond_fast.data.readers.dali import read_with_dali  # takes seconds to import

        return read_with_dali
    # a worker of a DataLoader or of a multiprocessing.Pool is daemonic: it may start no process
    may_start = not multiprocessing.current_process().daemon
    return read_in_processes if images.reader == "processes" and may_start else read_in_threads


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
