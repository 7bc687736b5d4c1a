"""`ImageReader`: a split together with everything that decides how its images are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gencond_fast.config import Transparency
from gencond_fast.data.contract import Split, Subset
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.image_cache import ImageCache
from gencond_fast.data.skipping import BadImage, Skipping


@dataclass(frozen=True, eq=False)
class ImageReader:
    """The images of a split, and how they are read.

    `open_source(...).train` is one; `stream`, `training_batches` and `draw_sample` read through it.
    It never changes: `with_cache` and `subset` return new readers.

    Attributes:
        split: the labels, and the images as their container stores them.
        reader: who decodes the images: `threads`, `processes` or `dali`; see `choice`.
        skip: the images that are left out because they cannot be decoded. With None an image that
            cannot be decoded is an error. Readers of the same split share one `skip`, so an image
            that one of them finds undecodable is left out by all.
        transparency: what shows through transparent images, see `transparency.opaque`.
        cache: images that are decoded once and held in memory from then on, or None.
    """

    split: Split
    reader: str = "threads"
    skip: Skipping | None = None
    cache: ImageCache | None = None
    transparency: Transparency = "white"

    def __len__(self) -> int:
        """N, the number of images, including those that are left out."""
        return len(self.split)

    @property
    def labels(self) -> np.ndarray:
        """int64 [N], values 0 … C-1."""
        return self.split.labels

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(H, W, channels) of every image where images are stored as pixels, else None."""
        return self.split.shape

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return self.split.where(index)

    def origin(self, rows: np.ndarray) -> np.ndarray:
        """See `Split.origin`."""
        return self.split.origin(rows)

    def left_out(self, rows: np.ndarray) -> np.ndarray:
        """Which of the images at `rows` are left out as far as is known: bool [n], a new array."""
        return np.zeros(len(rows), bool) if self.skip is None else self.skip(rows)

    def skip_or_raise(self, row: int, error: BadImage) -> None:
        """Leaves out the image at `row` from now on.

        Raises:
            BadImage: `error`, where undecodable images are not skipped.
        """
        if self.skip is None:
            raise error
        self.skip.add(row, error)

    def subset(self, rows: np.ndarray, tell: Callable[[str], None]) -> ImageReader:
        """Some of the images, decoded and left out as here, without a cache.

        Args:
            rows: int64 [n], strictly ascending.
            tell: called with a line for each undecodable image that the subset finds.
        """
        skip = None if self.skip is None else Skipping(np.flatnonzero(self.skip(rows)), tell)
        return ImageReader(
            Subset(self.split, rows), self.reader, skip, transparency=self.transparency
        )

    def with_cache(self, cache: ImageCache | None) -> ImageReader:
        """The same images, read through another cache."""
        return replace(self, cache=cache)

    def cache_for(self, form: Form) -> ImageCache | None:
        """The cache, if it is to hold images in this form."""
        usable = self.cache is not None and self.cache.form == form and len(self.cache) > 0
        return self.cache if usable else None

    def release_cache(self) -> None:
        """Frees the memory of the cache, if there is one; later reads decode again."""
        if self.cache is not None:
            self.cache.release()
