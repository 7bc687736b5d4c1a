"""How much of the memory may hold decoded images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gencond_fast.config import Switch
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.image_cache import ImageCache
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.errors import InputError
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.machine import own_memory

_SHARE = 0.25  # of the free memory; the rest is for tensors and for the cache of files


class CachePolicy:
    """Gives a cache to each set of images that is read more than once, as long as memory lasts.

    For example, with 8 GB free and `auto`, a first set of 1.5 GB is kept and a second one of 1 GB
    is not, because 2 GB are allowed for both.

    Args:
        switch: `auto` allows a quarter of the free memory. `on` allows all of it, and what does
            not fit is an error. `off` keeps nothing.
        tell: called with a line about each set of images.
    """

    def __init__(self, switch: Switch, tell: Callable[[str], None]) -> None:
        self._switch = switch
        self._tell = tell
        free = own_memory()
        self._allowed = free if switch == "on" else int(_SHARE * free)

    def keep(self, images: ImageReader, form: Form, rows: np.ndarray, what: str) -> ImageReader:
        """A reader of the same images that decodes those at `rows` once, if they fit into memory.

        Images that are stored as pixels get no cache, because reading them again costs nothing.

        Args:
            images: the images. This reader stays as it is.
            form: what the images will be asked for in, without a random crop.
            rows: ascending int64, the images that will be read again.
            what: names them in messages, as in "validation images".

        Returns:
            The images with a new cache, or `images` itself if nothing is to be kept.

        Raises:
            InputError: `switch` is `on`, and there is not enough memory.
        """
        if self._switch == "off" or images.shape is not None or not len(rows):
            return images
        size = len(rows) * form.empty(1).nbytes
        needs = f"{len(rows):,} {what} take {format_bytes(size)}"
        allowed = f"{format_bytes(self._allowed)} allowed"
        if size <= self._allowed:
            self._allowed -= size
            self._tell(f"kept in memory: {needs} of {allowed}")
            return images.with_cache(ImageCache(form, rows))
        if self._switch == "on":
            raise InputError(
                f"option 'in_memory' is on, but {needs} and {format_bytes(self._allowed)} are "
                "free: use in_memory=auto, or a smaller image size"
            )
        self._tell(f"not kept in memory: {needs}, {allowed}")
        return images
