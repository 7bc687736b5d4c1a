"""The reader for many cores: Pillow, in processes forked from this one.

Threads share one interpreter, and around small images it has more to do than the decoder. Encoded
images are sent to the processes; pixels come back through memory that is shared with them.
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

from gencond_fast.data.contract import Block, Load, Split
from gencond_fast.data.decode import fetch
from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.readers.decoding import Met, fill, meet
from gencond_fast.data.readers.forked import forked, held, result, stopping
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.data.skipping import BadImage

_BATCHES_AHEAD = 2
_TASKS_PER_WORKER = 3
_TASK_BYTES = 2 * 2**20  # of pixels
_TASK_IMAGES = (8, 64)  # fewer, and sending them costs; more, and a batch has too few tasks
_FETCHERS = 2  # threads that read ahead of the decoding
_ADVICE = "try --reader threads"


def read_in_processes(split: Split, form: Form, pairs: Pairs, workers: int) -> Iterator[Batch]:
    """See `batch.Reader`. Images that are arrays are resized in threads of this process.

    Raises:
        RunError: a process died, as it does when memory runs out.
    """
    if split.shape is not None:
        yield from read_in_threads(split, form, pairs, workers)
        return
    least, most = _TASK_IMAGES
    step = min(max(_TASK_BYTES // form.empty(1).nbytes, least), most)
    tasks = _tasks(split, form, pairs, step)
    first = list(islice(tasks, workers))
    if not first:
        return
    in_batch = -(-len(first[0].filling.part.rows) // step)
    slots = max(_BATCHES_AHEAD * in_batch, _TASKS_PER_WORKER * len(first))
    shared = _Shared(split, form, _shared_memory(form, slots, step))
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
            pending.append(_Sent(task, slot, fetchers.submit(_send, pool, task, split, slot)))
        while pending:
            yield from pending.popleft().receive(shared)


def _shared_memory(form: Form, slots: int, step: int) -> np.ndarray:
    """Slots of the pixels of a task each, uint8 [slots, step, channels, S, S].

    It has no name, so it is gone with the last process that has it, however that ends.
    """
    shape = (slots, step, *form.empty(1).shape[1:])
    memory = mmap.mmap(-1, int(np.prod(shape)))
    return np.frombuffer(memory, dtype=np.uint8).reshape(shape)


@dataclass(frozen=True, eq=False)
class _Shared:
    """What the processes have in common."""

    split: Split
    form: Form
    slots: np.ndarray


class _Filling:
    """A batch that is put together of tasks."""

    def __init__(self, split: Split, form: Form, part: Part) -> None:
        self.part = part
        self.images = form.empty(len(part.rows))
        skipping = split.skipping
        self.bad = np.zeros(len(part.rows), bool) if skipping is None else skipping(part.rows)


@dataclass(frozen=True, eq=False)
class _Task:
    """Some images of a batch, for one process."""

    filling: _Filling
    some: slice
    block: Block

    @property
    def rows(self) -> np.ndarray:
        return self.filling.part.rows[self.some]

    @property
    def bad(self) -> np.ndarray:
        return self.filling.bad[self.some]

    @property
    def last(self) -> bool:
        return self.some.stop >= len(self.filling.part.rows)


def _tasks(split: Split, form: Form, pairs: Pairs, step: int) -> Iterator[_Task]:
    for part, block in pairs:
        filling = _Filling(split, form, part)
        for at in range(0, len(part.rows), step):
            some = slice(at, at + step)
            yield _Task(filling, some, block[some])


@dataclass(frozen=True, eq=False)
class _Sent:
    """A task under way: its images are fetched, then decoded into a slot."""

    task: _Task
    slot: int
    future: Future[Future[Met]]

    def receive(self, shared: _Shared) -> Iterator[Batch]:
        """Takes the pixels out of the slot, and gives the batch if they were the last of it."""
        task, split = self.task, shared.split
        rows = task.rows
        place = f"images {rows[0]} to {rows[-1]} (from {split.where(int(rows[0]))})"
        meet(split, rows, task.bad, result(result(self.future, place, _ADVICE), place, _ADVICE))
        filling = task.filling
        filling.images[task.some] = shared.slots[self.slot, : len(rows)]
        if task.last:
            yield from batch_of(split, filling.part, torch.from_numpy(filling.images), filling.bad)


_Encoded = list[bytes | BadImage | None]


def _send(pool: ProcessPoolExecutor, task: _Task, split: Split, slot: int) -> Future[Met]:
    """In a thread: fetches the images of a task and sends them to a process."""
    encoded: _Encoded = []
    for item, row, bad in zip(task.block, task.rows.tolist(), task.bad, strict=True):
        try:
            encoded.append(None if bad else fetch(item, split.where(row)))
        except BadImage as error:  # a row without an image
            encoded.append(error)
    return pool.submit(_decode, slot, task.rows, task.bad, encoded)


def _decode(slot: int, rows: np.ndarray, bad: np.ndarray, encoded: _Encoded) -> Met:
    """In a process: decodes the images of a task into a slot."""
    if stopping():
        return []
    shared: _Shared = held()
    block: list[Load] = [partial(_again, item) for item in encoded]
    return fill(shared.split, shared.form, block, rows, bad, shared.slots[slot])


def _again(item: bytes | BadImage | None) -> bytes:
    """What fetching an image gave, or raised."""
    if isinstance(item, BadImage):
        raise item
    assert item is not None
    return item
