"""Images held in memory as they are first read, so that none is decoded twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain

import numpy as np
import torch

from gencond_fast.config import Switch
from gencond_fast.data.contract import Split
from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.errors import InputError
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.machine import own_memory

_SHARE = 0.25  # of the memory that is left; the rest is for tensors and for the cache of files

Decode = Callable[[Pairs], Generator[Batch, None, None]]


class ImageCache:
    """Images of one split in one form, each held from the time it is added.

    Args:
        form: theirs, without a random crop.
        rows: ascending int64, those to be held. Memory is taken as they are added.
    """

    def __init__(self, form: Form, rows: np.ndarray) -> None:
        if form.crop is not None:
            raise ValueError("images under random crops are never the same, so none can be kept")
        self.form = form
        self._rows = rows
        self._images = form.empty(len(rows))
        self._there = np.zeros(len(rows), bool)

    def __len__(self) -> int:
        """How many are to be held."""
        return len(self._rows)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Which of the images at `rows` are held: bool [n]."""
        places, wanted = self._places(rows)
        wanted[wanted] = self._there[places]
        return wanted

    def add(self, batch: Batch) -> None:
        """Holds the images of a batch that are to be held."""
        places, wanted = self._places(batch.indices.numpy())
        self._images[places] = batch.images.cpu().numpy()[wanted]
        self._there[places] = True

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of images that are held: uint8 [n, channels, S, S]."""
        return self._images[np.searchsorted(self._rows, rows)]

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of those of `rows` that are to be held, and which they are: bool [n]."""
        places = np.searchsorted(self._rows, rows)
        wanted = places < len(self._rows)
        wanted[wanted] = self._rows[places[wanted]] == rows[wanted]
        return places[wanted], wanted


class CachePolicy:
    """Decides what is kept in memory: all that is asked for, as long as it fits.

    Args:
        switch: `auto` keeps what fits into a quarter of the memory that is left, `on` all that is
            asked for, `off` nothing.
        tell: called with a line about each set of images.
    """

    def __init__(self, switch: Switch, tell: Callable[[str], None]) -> None:
        self._switch = switch
        self._tell = tell
        left = own_memory()
        self._allowed = left if switch == "on" else int(_SHARE * left)

    def keep(self, split: Split, form: Form, rows: np.ndarray, what: str) -> None:
        """Lets a split keep its images at `rows` from when they are first read, if they fit.

        Images that are stored as pixels are not kept, for nothing would be saved.

        Args:
            split: gets `kept`.
            form: what the images will be asked for in, without a random crop.
            rows: ascending int64, the images that will be read again.
            what: names them in messages, as in "validation images".

        Raises:
            InputError: they are to be kept whatever they take, and there is not enough memory.
        """
        if self._switch == "off" or split.shape is not None or not len(rows):
            return
        size = len(rows) * form.empty(1).nbytes
        needs = f"{len(rows):,} {what} take {format_bytes(size)}"
        allowed = f"{format_bytes(self._allowed)} allowed"
        if size <= self._allowed:
            split.kept = ImageCache(form, rows)
            self._allowed -= size
            self._tell(f"kept in memory: {needs} of {allowed}")
        elif self._switch == "on":
            raise InputError(
                f"option 'in_memory' is on, but {needs} and {format_bytes(self._allowed)} are "
                "free: use in_memory=auto, or a smaller image size"
            )
        else:
            self._tell(f"not kept in memory: {needs}, {allowed}")


def needs_no_reading(split: Split, form: Form, rows: np.ndarray) -> bool:
    """Whether all images at `rows` are held in this form, or left out."""
    kept = split.kept
    return kept is not None and kept.form == form and not _lacking(split, kept, rows).any()


def joined(split: Split, kept: ImageCache, pairs: Pairs, decode: Decode) -> Iterator[Batch]:
    """The batches of pairs, of what is held and of what has yet to be decoded.

    They are the same as if nothing was held.

    Args:
        split: the images, which are not stored as pixels.
        kept: what is held, and what is added to.
        pairs: the block of a part may be anything if all of its images are held.
        decode: gives the batches of pairs.
    """
    for part, block in pairs:
        if _lacking(split, kept, part.rows).any():  # the rest as well, to be decoded ahead
            yield from _decoded(split, kept, chain([(part, block)], pairs), decode)
        else:
            yield from _with(kept, split, part, None)


def _decoded(split: Split, kept: ImageCache, pairs: Pairs, decode: Decode) -> Iterator[Batch]:
    waiting: deque[Part] = deque()

    def lacking() -> Pairs:
        for part, block in pairs:
            waiting.append(part)
            lacks = _lacking(split, kept, part.rows)
            if lacks.any():
                some = [block[place] for place in np.flatnonzero(lacks)]
                yield Part(part.rows[lacks], part.done), some

    with closing(decode(lacking())) as batches:
        for batch in batches:
            while waiting[0].done < batch.done:  # all of these is held, or is bad
                yield from _with(kept, split, waiting.popleft(), None)
            yield from _with(kept, split, waiting.popleft(), batch)
    while waiting:
        yield from _with(kept, split, waiting.popleft(), None)


def _lacking(split: Split, kept: ImageCache, rows: np.ndarray) -> np.ndarray:
    """Which of the images at `rows` have to be decoded: bool [n]."""
    lacking = ~kept.has(rows)
    return lacking if split.skipping is None else lacking & ~split.skipping(rows)


def _with(kept: ImageCache, split: Split, part: Part, fresh: Batch | None) -> Iterator[Batch]:
    """The batch of a part, of what is held and of those of its images that were decoded."""
    there = kept.has(part.rows)
    if fresh is not None:
        kept.add(fresh)
        if not there.any():
            yield fresh
            return
    images = kept.form.empty(len(part.rows))
    images[there] = kept.take(part.rows[there])
    if fresh is not None:
        places = np.searchsorted(part.rows, fresh.indices.numpy())
        images[places] = fresh.images.cpu().numpy()
        there[places] = True
    yield from batch_of(split, part, torch.from_numpy(images), ~there)
