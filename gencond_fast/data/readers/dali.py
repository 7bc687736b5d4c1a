"""The reader `dali`, for GPUs: NVIDIA DALI decodes JPEGs, Pillow decodes the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import torch

from gencond_fast.data.contract import Block, Load
from gencond_fast.data.decode import fetch, fraction
from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.readers.decoding import pixels, shapes
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.readers.jpeg import plain_size
from gencond_fast.data.readers.pipeline import Pipeline, Pipelines
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.data.resize import central, fit
from gencond_fast.data.skipping import BadImage

_FETCHED_AHEAD = 2
_DECODED_AHEAD = 2
_RESIZED_AHEAD = 1
_TASKS_PER_WORKER = 2

T = TypeVar("T")


def dali_obstacle() -> str | None:
    """Why DALI cannot be used here, as the rest of a sentence; None if it can."""
    if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
        return "it is not installed (the extra `dali`)"
    try:
        import nvidia.dali  # noqa: F401
    except Exception as error:  # its libraries may miss what they need of the system
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f"it cannot be imported ({reason})"
    return None


def read_with_dali(images: ImageReader, form: Form, pairs: Pairs, workers: int) -> Iterator[Batch]:
    """See `choice.Reader`; the images are on the current GPU where there is one.

    DALI decodes upright gray and YCbCr JPEGs, and always the whole image: if it decoded a window
    alone it would not notice damage outside of it. Pillow decodes everything else, and, image by
    image, every batch that DALI fails on. So all readers leave out the same images.

    On a CPU the pixels have the same bits as those of the other readers, with one exception: where
    `form` is gray and the JPEG is in colour, they are the coded luma, which is 0.01 levels away on
    average and up to 17 where colours are clipped. JPEGs that Pillow can decode at a fraction of
    their size go to Pillow there, which is faster. A GPU also resizes, and keeps more bits between
    the two directions of the filter.
    """
    if images.shape is not None:  # pixels, nothing to decode
        yield from read_in_threads(images, form, pairs, workers)
        return
    with closing(_Reading(images, form, workers)) as reading:
        fetching = (reading.fetch(part, block) for part, block in pairs)
        fed = (reading.feed(pending) for pending in _begun_ahead(fetching, _FETCHED_AHEAD))
        taken = (reading.take(pending) for pending in _begun_ahead(fed, _DECODED_AHEAD))
        for pending in _begun_ahead(taken, _RESIZED_AHEAD):
            yield from reading.finish(pending)


def _begun_ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The same items; an item is handed on once `count` items after it are begun."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


@dataclass(frozen=True, eq=False)
class _Encoded:
    """An image for DALI: its bytes, and its width and height in pixels."""

    data: bytes
    size: tuple[int, int]


_Item = _Encoded | np.ndarray | BadImage | None
"""What has become of an image: its pixels [S, S, channels], or None where it is left out."""


@dataclass(eq=False)
class _Pending:
    """A batch on its way.

    Attributes:
        part: the n images asked for.
        bad: bool [n], which of them are left out.
        tasks: fetch them, each task a chunk of them.
        places: those of the m images that went to DALI, in the batch.
        windows: int [m, 4], their windows.
        pipeline: gives these images decoded, once.
        squares: uint8 [n, S, S, channels]. The images that went to DALI are written to their places
            by `filling` on a CPU, by DALI on a GPU.
        filling: tasks that resize images, or decode them again.
    """

    part: Part
    bad: np.ndarray
    tasks: list[Future[list[_Item]]]
    places: list[int] = field(default_factory=list)
    windows: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), dtype=np.int64))
    pipeline: Pipeline | None = None
    squares: torch.Tensor | None = None
    filling: list[Future[list[BadImage | None]]] = field(default_factory=list)

    def items(self) -> list[_Item]:
        """What was fetched, in order."""
        return [item for task in self.tasks for item in task.result()]


class _Reading:
    """The four steps of every batch: fetch, feed, take and finish."""

    def __init__(self, images: ImageReader, form: Form, workers: int) -> None:
        self._images = images
        self._form = form
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="gencond-fetch")
        self._pipelines = Pipelines(form, workers)

    def close(self) -> None:
        """Ends all threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pipelines.close()

    def fetch(self, part: Part, block: Block) -> _Pending:
        """Begins to fetch the images, and to decode those that are not for DALI."""
        rows, bad = part.rows, self._images.left_out(part.rows)
        step = -(-len(rows) // (_TASKS_PER_WORKER * self._workers))
        edges = [slice(at, at + step) for at in range(0, len(rows), step)]
        tasks = [self._pool.submit(self._some, block[e], rows[e], bad[e]) for e in edges]
        return _Pending(part, bad, tasks)

    def feed(self, pending: _Pending) -> _Pending:
        """Hands to DALI the images that are for it; `finish` raises what went wrong so far."""
        if any(task.exception() for task in pending.tasks):
            return pending
        chosen = {at: i for at, i in enumerate(pending.items()) if isinstance(i, _Encoded)}
        if chosen:
            pending.places = list(chosen)
            sizes = np.array([item.size for item in chosen.values()])
            pending.windows = _windows(self._form, pending.part.rows[pending.places], sizes)
            data = [np.frombuffer(item.data, np.uint8) for item in chosen.values()]
            pending.pipeline = self._pipelines.feed(data, sizes, pending.windows, len(pending.bad))
        return pending

    def take(self, pending: _Pending) -> _Pending:
        """Begins to resize what DALI has decoded, or lets Pillow decode what DALI failed on."""
        if pending.pipeline is None:
            return pending
        taken = pending.pipeline.take()
        if isinstance(taken, torch.Tensor) and len(taken) == len(pending.bad):
            pending.squares = taken
            return pending
        pending.squares = self._room(len(pending.bad))
        if isinstance(taken, torch.Tensor):
            pending.squares[torch.tensor(pending.places, device=taken.device)] = taken
        else:
            self._fill(pending, taken)
        return pending

    def finish(self, pending: _Pending) -> Iterator[Batch]:
        """The batch, or nothing where all of it is left out."""
        items, rows = pending.items(), pending.part.rows
        failed = [error for task in pending.filling for error in task.result()]
        for place, error in zip(pending.places, failed, strict=False):
            items[place] = error
        squares = self._room(len(items)) if pending.squares is None else pending.squares
        for place, item in enumerate(items):
            if isinstance(item, np.ndarray):
                _put(squares, place, item)
            elif isinstance(item, BadImage):
                self._images.skip_or_raise(int(rows[place]), item)
                pending.bad[place] = True
        squares = squares.permute(0, 3, 1, 2)
        yield from batch_of(self._images.labels, pending.part, squares, pending.bad)

    def _room(self, count: int) -> torch.Tensor:
        form = self._form
        shape = (count, form.size, form.size, form.channels)
        return torch.empty(shape, dtype=torch.uint8, device=self._pipelines.device)

    def _fill(self, pending: _Pending, images: list[np.ndarray] | None) -> None:
        """Begins to put squares of whole images, or what Pillow decodes, where they belong."""
        items, places = pending.items(), pending.places
        step = -(-len(places) // (_TASKS_PER_WORKER * self._workers))
        for at in range(0, len(places), step):
            some = slice(at, at + step)
            if images is None:
                task = partial(self._decode_again, pending, [items[p] for p in places[some]], some)
            else:
                task = partial(self._resize, pending, images[some], some)
            pending.filling.append(self._pool.submit(task))

    def _resize(
        self, pending: _Pending, images: list[np.ndarray], some: slice
    ) -> list[BadImage | None]:
        assert pending.squares is not None
        squares = pending.squares.numpy()
        for place, image, window in zip(
            pending.places[some], images, pending.windows[some].tolist(), strict=True
        ):
            squares[place] = fit(image, self._form.size, window)
        return [None] * len(images)

    def _decode_again(
        self, pending: _Pending, items: list[_Item], some: slice
    ) -> list[BadImage | None]:
        assert pending.squares is not None
        errors: list[BadImage | None] = []
        for place, item in zip(pending.places[some], items, strict=True):
            assert isinstance(item, _Encoded)
            decoded = self._by_pillow(item.data, int(pending.part.rows[place]))
            errors.append(decoded if isinstance(decoded, BadImage) else None)
            if not isinstance(decoded, BadImage):
                _put(pending.squares, place, decoded)
        return errors

    def _some(self, block: Block, rows: np.ndarray, bad: np.ndarray) -> list[_Item]:
        return [
            None if left_out else self._fetched(item, int(row))
            for item, row, left_out in zip(block, rows, bad, strict=True)
        ]

    def _fetched(self, item: Load, row: int) -> _Item:
        where = self._images.where(row)
        data = fetch(item, where)
        size = plain_size(data)
        if size is None or self._better_by_pillow(size):
            return self._by_pillow(data, row)
        return _Encoded(data, size)

    def _better_by_pillow(self, size: tuple[int, int]) -> bool:
        """Whether Pillow decodes an image of this size at a fraction, which is fast on a CPU."""
        if self._form.crop is not None or self._pipelines.device.type != "cpu":
            return False
        return fraction(*size, self._form.size) > 1

    def _by_pillow(self, data: bytes, row: int) -> np.ndarray | BadImage:
        try:
            (shape,) = shapes(self._form, np.array([row]))
            return pixels(lambda: data, self._images, row, self._form, shape)
        except BadImage as error:
            return error


def _put(squares: torch.Tensor, place: int, square: np.ndarray) -> None:
    """Copies a square, which may be read-only, to its place."""
    if squares.device.type == "cpu":
        squares.numpy()[place] = square
    else:
        squares[place] = torch.from_numpy(np.array(square))


def _windows(form: Form, rows: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The windows int [n, 4] of upright images of these sizes, int [n, 2]."""
    width, height = sizes.T
    if form.crop is not None:
        return form.crop.windows(form.crop.draws(rows), width, height)
    return np.array([central(*each) for each in sizes.tolist()])
