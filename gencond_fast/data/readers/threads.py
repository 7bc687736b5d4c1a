"""The reader `threads`: Pillow, in threads of this process. It works everywhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from gencond_fast.data.contract import Block
from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.readers.decoding import Undecodable, decode_block, leave_out
from gencond_fast.data.readers.image_reader import ImageReader

_BATCHES_AHEAD = 2
_TASKS_PER_WORKER = 2


def read_in_threads(images: ImageReader, form: Form, pairs: Pairs, workers: int) -> Iterator[Batch]:
    """See `choice.Reader`."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gencond-decode")
    pending: deque[_Pending] = deque()
    try:
        for part, block in pairs:
            pending.append(_Pending(pool, images, form, part, block, workers))
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
        images: ImageReader,
        form: Form,
        part: Part,
        block: Block,
        workers: int,
    ) -> None:
        self._images = images
        self._part = part
        self._pixels = form.empty(len(part.rows))
        self._bad = images.left_out(part.rows)
        step = -(-len(part.rows) // (_TASKS_PER_WORKER * workers))
        self._tasks: list[tuple[slice, Future[Undecodable]]] = []
        for at in range(0, len(part.rows), step):
            chunk = slice(at, at + step)
            places = part.rows[chunk], self._bad[chunk], self._pixels[chunk]
            task = pool.submit(decode_block, images, form, block[chunk], *places)
            self._tasks.append((chunk, task))

    def wait(self) -> Iterator[Batch]:
        """The batch, or nothing where all of it is left out."""
        for chunk, task in self._tasks:
            leave_out(self._images, self._part.rows[chunk], self._bad[chunk], task.result())
        pixels = torch.from_numpy(self._pixels)
        yield from batch_of(self._images.labels, self._part, pixels, self._bad)
