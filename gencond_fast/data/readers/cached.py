"""Reading through a cache: what it holds is copied, the rest is decoded and added to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain

import numpy as np
import torch

from gencond_fast.data.readers.batch import Batch, Form, Pairs, Part, batch_of
from gencond_fast.data.readers.image_cache import ImageCache
from gencond_fast.data.readers.image_reader import ImageReader

Decode = Callable[[Pairs], Generator[Batch, None, None]]


def needs_no_reading(images: ImageReader, form: Form, rows: np.ndarray) -> bool:
    """Whether the cache holds all images at `rows` in this form, but for those left out."""
    cache = images.cache_for(form)
    return cache is not None and not _missing(images, cache, rows).any()


def read_through(
    images: ImageReader, cache: ImageCache, pairs: Pairs, decode: Decode
) -> Iterator[Batch]:
    """The batches of pairs, from the cache as far as it holds their images.

    They are the same as without a cache.

    Args:
        images: the images, which are not stored as pixels.
        cache: their cache, in the form that is wanted. What is decoded is added to it.
        pairs: the block of a part may be anything if the cache holds all of its images.
        decode: gives the batches of pairs.
    """
    for part, block in pairs:
        if _missing(images, cache, part.rows).any():  # the rest as well, to be decoded ahead
            yield from _decoded(images, cache, chain([(part, block)], pairs), decode)
        else:
            yield from _completed(images, cache, part, None)


def _decoded(
    images: ImageReader, cache: ImageCache, pairs: Pairs, decode: Decode
) -> Iterator[Batch]:
    waiting: deque[Part] = deque()

    def missing() -> Pairs:
        for part, block in pairs:
            waiting.append(part)
            lacks = _missing(images, cache, part.rows)
            if lacks.any():
                wanted = [block[place] for place in np.flatnonzero(lacks)]
                yield Part(part.rows[lacks], part.done), wanted

    with closing(decode(missing())) as batches:
        for batch in batches:
            while waiting[0].done < batch.done:  # all of these are held, or left out
                yield from _completed(images, cache, waiting.popleft(), None)
            yield from _completed(images, cache, waiting.popleft(), batch)
    while waiting:
        yield from _completed(images, cache, waiting.popleft(), None)


def _missing(images: ImageReader, cache: ImageCache, rows: np.ndarray) -> np.ndarray:
    """Which of the images at `rows` have to be decoded: bool [n]."""
    missing = ~cache.has(rows)
    return missing if images.skip is None else missing & ~images.skip(rows)


def _completed(
    images: ImageReader, cache: ImageCache, part: Part, fresh: Batch | None
) -> Iterator[Batch]:
    """The batch of a part, from the cache and from those of its images that were just decoded."""
    there = cache.has(part.rows)
    if fresh is not None:
        cache.add(fresh)
        if not there.any():
            yield fresh
            return
    pixels = cache.form.empty(len(part.rows))
    pixels[there] = cache.take(part.rows[there])
    if fresh is not None:
        places = np.searchsorted(part.rows, fresh.indices.numpy())
        pixels[places] = fresh.images.cpu().numpy()
        there[places] = True
    yield from batch_of(images.labels, part, torch.from_numpy(pixels), ~there)
