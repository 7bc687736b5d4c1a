"""What headers tell about a data set: whether any image has colour, and how large images are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import Load
from gencond_fast.data.decode import decode, fetch, header
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.skipping import BadImage
from gencond_fast.system.cache import cache_directory, cache_key, load_json, save_json

_HEADERS_AT_ONCE = 64
_WORTH_KEEPING = 1000  # headers; to find no colour all of them are read


def inspect(splits: Sequence[ImageReader | None], digest: str) -> tuple[int, int]:
    """Finds the channels and the size of images; reads headers up to the first colour image.

    Args:
        splits: training and validation images.
        digest: names the data. The answer is cached under it where many headers had to be read.

    Returns:
        (3 if any image has colour, else 1; shorter side of the first image that can be decoded,
        0 where none can).

    Raises:
        InputError: a header cannot be read.
    """
    kept = _kept(digest)
    if kept is not None:
        with suppress(ValueError, TypeError):
            channels, native_size = map(int, load_json(kept))
            return channels, native_size
    channels, native_size, read = _look(splits)
    if kept is not None and read > _WORTH_KEEPING:
        with suppress(OSError):  # it would only have saved time
            save_json(kept, [channels, native_size])
    return channels, native_size


def _kept(digest: str) -> Path | None:
    try:
        return cache_directory("index") / f"{cache_key(kind='inspection', data=digest)}.json"
    except OSError:
        return None


def _look(splits: Sequence[ImageReader | None]) -> tuple[int, int, int]:
    """(channels, shorter side of the first image, headers read)."""
    native_size = read = 0
    for images in splits:
        if images is None:
            continue
        if images.shape is not None:
            native_size = native_size or min(images.shape[:2])
            if images.shape[2] == 3:
                return 3, native_size, read
            continue
        with closing(images.split.read(np.arange(len(images)), _HEADERS_AT_ONCE)) as blocks:
            for index, item in enumerate(chain.from_iterable(blocks)):
                found = _header(images, index, item, first=not native_size)
                read += 1
                if found is None:
                    continue
                gray, short = found
                native_size = native_size or short
                if not gray:
                    return 3, native_size, read
    return 1, native_size, read


def _header(images: ImageReader, index: int, item: Load, *, first: bool) -> tuple[bool, int] | None:
    """As `decode.header`, None for an image that is left out."""
    where = images.where(index)
    if images.skip is None:
        return header(fetch(item, where), where)
    if index in images.skip:
        return None
    data = fetch(item, where)
    try:
        gray, short = header(data, where)
        if first or not gray:  # what decides must not be an image that is left out later
            decode(data, channels=3, where=where)
    except BadImage as error:
        images.skip_or_raise(index, error)
        return None
    return gray, short
