"""The reader `processes`: Pillow, in processes forked from this one, for many cores.

Threads share one interpreter, and with small images the interpreter is busier than the decoder.
This process reads the encoded images and sends them to the workers. Pixels come back through shared
memory.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
import torch

from gencond_fast.data.contract import Block, Load
from gencond_fast.data.decode import fetch
from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.readers.decoding import Undecodable, decode_block, leave_out
from gencond_fast.data.readers.forked import forked, held, result, stopping
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.data.skipping import BadImage

_BATCHES_AHEAD = 2
_TASKS_PER_WORKER = 3
_TASK_BYTES = 2 * 2**20  # of pixels
_TASK_IMAGES = (8, 64)  # fewer, and sending them costs; more, and a batch has too few tasks
_FETCHERS = 2  # threads that read encoded images
_ADVICE = "try --reader threads"


def read_in_processes(
    images: ImageReader, form: Form, pairs: Pairs, workers: int
) -> Iterator[Batch]:
    """See `choice.Reader`. Images that are stored as pixels are resized in threads instead.

    Raises:
        RunError: a process died, as it does when memory runs out.
    """
    if images.shape is not None:
        yield from read_in_threads(images, form, pairs, workers)
        return
    least, most = _TASK_IMAGES
    step = min(max(_TASK_BYTES // form.empty(1).nbytes, least), most)
    tasks = _tasks(images, form, pairs, step)
    first = list(islice(tasks, workers))
    if not first:
        return
    in_batch = -(-len(first[0].batch.part.rows) // step)
    slots = max(_BATCHES_AHEAD * in_batch, _TASKS_PER_WORKER * len(first))
    shared = _Shared(images, form, _shared_memory(form, slots, step))
    with ExitStack() as stack:
        # no more processes than there is work for
        pool = stack.enter_context(forked(len(first), shared))
        fetchers = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="gencond-fetch")
        stack.callback(fetchers.shutdown, cancel_futures=True)
        free = list(range(slots))
        pending: deque[_Sent] = deque()
        for task in chain(first, tasks):
            if not free:
                done = pending.popleft()
                yield from done.receive(shared)
                free.append(done.slot)
            slot = free.pop()
            pending.append(_Sent(task, slot, fetchers.submit(_send, pool, task, images, slot)))
        while pending:
            yield from pending.popleft().receive(shared)


def _shared_memory(form: Form, slots: int, step: int) -> np.ndarray:
    """Memory for the pixels of `slots` tasks: uint8 [slots, step, channels, S, S].

    It has no name in the file system, so it is gone with the last process that maps it, however
    that process ends.
    """
    shape = (slots, step, *form.empty(1).shape[1:])
    memory = mmap.mmap(-1, int(np.prod(shape)))
    return np.frombuffer(memory, dtype=np.uint8).reshape(shape)


@dataclass(frozen=True, eq=False)
class _Shared:
    """What this process and the workers have in common."""

    images: ImageReader
    form: Form
    slots: np.ndarray


class _Unfinished:
    """A batch that is put together from the results of its tasks."""

    def __init__(self, images: ImageReader, form: Form, part: Part) -> None:
        self.part = part
        self.pixels = form.empty(len(part.rows))
        self.bad = images.left_out(part.rows)


@dataclass(frozen=True, eq=False)
class _Task:
    """A chunk of the images of a batch, for one worker."""

    batch: _Unfinished
    chunk: slice
    block: Block

    @property
    def rows(self) -> np.ndarray:
        return self.batch.part.rows[self.chunk]

    @property
    def bad(self) -> np.ndarray:
        return self.batch.bad[self.chunk]

    @property
    def last(self) -> bool:
        return self.chunk.stop >= len(self.batch.part.rows)


def _tasks(images: ImageReader, form: Form, pairs: Pairs, step: int) -> Iterator[_Task]:
    for part, block in pairs:
        batch = _Unfinished(images, form, part)
        for at in range(0, len(part.rows), step):
            chunk = slice(at, at + step)
            yield _Task(batch, chunk, block[chunk])


@dataclass(frozen=True, eq=False)
class _Sent:
    """A task under way: its images are fetched, then decoded into a slot."""

    task: _Task
    slot: int
    future: Future[Future[Undecodable]]

    def receive(self, shared: _Shared) -> Iterator[Batch]:
        """Copies the pixels out of the slot; gives the batch if they were the last of it."""
        task, images, batch = self.task, shared.images, self.task.batch
        rows = task.rows
        place = f"images {rows[0]} to {rows[-1]} (from {images.where(int(rows[0]))})"
        found = result(result(self.future, place, _ADVICE), place, _ADVICE)
        leave_out(images, rows, task.bad, found)
        batch.pixels[task.chunk] = shared.slots[self.slot, : len(rows)]
        if task.last:
            pixels = torch.from_numpy(batch.pixels)
            yield from batch_of(images.labels, batch.part, pixels, batch.bad)


_Encoded = list[bytes | BadImage | None]


def _send(
    pool: ProcessPoolExecutor, task: _Task, images: ImageReader, slot: int
) -> Future[Undecodable]:
    """In a thread: fetches the images of a task and sends them to a worker."""
    encoded: _Encoded = []
    for item, row, bad in zip(task.block, task.rows.tolist(), task.bad, strict=True):
        try:
            encoded.append(None if bad else fetch(item, images.where(row)))
        except BadImage as error:  # a row without an image
            encoded.append(error)
    return pool.submit(_decode, slot, task.rows, task.bad, encoded)


def _decode(slot: int, rows: np.ndarray, bad: np.ndarray, encoded: _Encoded) -> Undecodable:
    """In a worker: decodes the images of a task into a slot."""
    if stopping():
        return []
    shared: _Shared = held()
    block: list[Load] = [partial(_again, item) for item in encoded]
    return decode_block(shared.images, shared.form, block, rows, bad, shared.slots[slot])


def _again(item: bytes | BadImage | None) -> bytes:
    """Returns what fetching an image has returned, or raises what it has raised."""
    if isinstance(item, BadImage):
        raise item
    assert item is not None
    return item
