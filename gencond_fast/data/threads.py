"""The reader that is always there: Pillow, in threads of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from gencond_fast.data.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.contract import Block, Load, Split
from gencond_fast.data.decode import decode, fetch
from gencond_fast.data.resize import fit, with_channels
from gencond_fast.data.skipping import BadImage

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


def pixels(item: Load | np.ndarray, split: Split, row: int, form: Form) -> np.ndarray:
    """One image in its form, uint8 [S, S, channels]."""
    window = None if form.crop is None else partial(form.crop.window, row)
    if isinstance(item, np.ndarray):
        box = None if window is None else window(item.shape[1], item.shape[0])
        return fit(with_channels(item, form.channels), form.size, box)
    where = split.where(row)
    data = fetch(item, where)
    return decode(data, channels=form.channels, where=where, image_size=form.size, window=window)


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
        self._tasks: list[Future[list[tuple[int, BadImage]]]] = [
            pool.submit(self._fill, block[at : at + step], at)
            for at in range(0, len(part.rows), step)
        ]

    def _fill(self, block: Block, start: int) -> list[tuple[int, BadImage]]:
        """Decodes some of the images, and gives back the places of those it could not."""
        met = []
        for place, item in enumerate(block, start):
            if self._bad[place]:
                continue
            row = int(self._part.rows[place])
            try:
                decoded = pixels(item, self._split, row, self._form)
            except BadImage as error:
                if self._split.skipping is None:
                    raise
                met.append((place, error))
            else:
                self._images[place] = decoded.transpose(2, 0, 1)
        return met

    def wait(self) -> Iterator[Batch]:
        """The batch, or nothing where all of it is left out."""
        for task in self._tasks:
            for place, error in task.result():
                assert self._split.skipping is not None
                self._split.skipping.meet(int(self._part.rows[place]), error)
                self._bad[place] = True
        yield from batch_of(self._split, self._part, torch.from_numpy(self._images), self._bad)
