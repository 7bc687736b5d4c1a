"""The reader that is always there: Pillow, in threads of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from gencond_fast.data.contract import Block, Split
from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.readers.decoding import Met, fill, meet

_BATCHES_AHEAD = 2
_TASKS_PER_WORKER = 2


def read_in_threads(split: Split, form: Form, pairs: Pairs, workers: int) -> Iterator[Batch]:
    """See `batch.Reader`."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gencond-decode")
    pending: deque[_Pending] = deque()
    try:
        for part, block in pairs:
            pending.append(_Pending(pool, split, form, part, block, workers))
            if len(pending) > _BATCHES_AHEAD:
                yield from pending.popleft().wait()
        while pending:
            yield from pending.popleft().wait()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Pending:
    """A batch that the pool is filling."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        split: Split,
        form: Form,
        part: Part,
        block: Block,
        workers: int,
    ) -> None:
        self._split = split
        self._form = form
        self._part = part
        self._images = form.empty(len(part.rows))
        skipping = split.skipping
        self._bad = np.zeros(len(part.rows), bool) if skipping is None else skipping(part.rows)
        step = -(-len(part.rows) // (_TASKS_PER_WORKER * workers))
        self._tasks: list[tuple[slice, Future[Met]]] = []
        for at in range(0, len(part.rows), step):
            some = slice(at, at + step)
            places = part.rows[some], self._bad[some], self._images[some]
            self._tasks.append((some, pool.submit(fill, split, form, block[some], *places)))

    def wait(self) -> Iterator[Batch]:
        """The batch, or nothing where all of it is left out."""
        for some, task in self._tasks:
            meet(self._split, self._part.rows[some], self._bad[some], task.result())
        yield from batch_of(self._split, self._part, torch.from_numpy(self._images), self._bad)
