"""The reader that is always there: Pillow, in threads of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from gencond_fast.data.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.contract import Block, Load, Split
from gencond_fast.data.crop import window
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


Shape = Sequence[float]
"""A random window before it meets its image, see `RandomCrop.shapes`."""


def pixels(
    item: Load | np.ndarray, split: Split, row: int, form: Form, shape: Shape | None
) -> np.ndarray:
    """One image in its form, uint8 [S, S, channels]; `shape` is that of its window."""
    found = None if shape is None else partial(window, shape)
    if isinstance(item, np.ndarray):
        box = None if found is None else found(item.shape[1], item.shape[0])
        return fit(with_channels(item, form.channels), form.size, box)
    where = split.where(row)
    data = fetch(item, where)
    return decode(data, channels=form.channels, where=where, image_size=form.size, window=found)


def shapes(form: Form, rows: np.ndarray) -> Sequence[Shape | None]:
    """The shapes of the random windows of images at `rows`, None where they have none."""
    if form.crop is None:
        return [None] * len(rows)
    return form.crop.shapes(form.crop.draws(rows)).tolist()


Met = list[tuple[int, BadImage]]
"""Places of images that turned out to be bad, and what is wrong with them."""


def fill(
    split: Split, form: Form, block: Block, rows: np.ndarray, bad: np.ndarray, images: np.ndarray
) -> Met:
    """Decodes some images in place.

    Args:
        split: where they are.
        form: what they are brought into.
        block: [n], themselves.
        rows: int64 [n].
        bad: bool [n], which of them are not to be touched.
        images: uint8 [n, channels, S, S], to be filled.

    Raises:
        InputError: an image cannot be read; `BadImage` unless the split skips those.
    """
    met = []
    drawn = shapes(form, rows)
    for place, item in enumerate(block):
        if bad[place]:
            continue
        try:
            decoded = pixels(item, split, int(rows[place]), form, drawn[place])
        except BadImage as error:
            if split.skipping is None:
                raise
            met.append((place, error))
        else:
            images[place] = decoded.transpose(2, 0, 1)
    return met


def meet(split: Split, rows: np.ndarray, bad: np.ndarray, met: Met) -> None:
    """Tells the split of the bad images among those at `rows`, and marks them in `bad`."""
    for place, error in met:
        assert split.skipping is not None
        split.skipping.meet(int(rows[place]), error)
        bad[place] = True


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
