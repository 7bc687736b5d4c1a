"""A data set that is not at hand: its numbers, with noise for images."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from gencond_fast.data.contract import Block, Split
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.source import Source

_TESTED = 25  # training images for each test image, as in ImageNet-1k


class Noise(Split):
    """Uniform noise of the size asked for, which needs neither reading nor decoding.

    Args:
        images: how many, of all classes evenly.
        num_classes: C.
        side: in pixels.
    """

    def __init__(self, images: int, num_classes: int, side: int) -> None:
        self.labels = np.arange(images) % num_classes
        self.shape = (side, side, 3)

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        assert self.shape is not None
        for start in range(0, len(indices), block):
            rows = indices[start : start + block]
            rng = np.random.default_rng(int(rows[0]))
            yield rng.integers(0, 256, (len(rows), *self.shape), dtype=np.uint8)

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"image {index} of noise"


def noise_source(images: int, num_classes: int, side: int) -> Source:
    """As many training images of as many classes, and a test image for every 25 of them."""
    tested = max(images // _TESTED, num_classes)
    names = tuple(f"class {label}" for label in range(num_classes))
    return Source(
        location=f"{images:,} images that are not at hand",
        class_names=names,
        titles=names,
        channels=3,
        train=ImageReader(Noise(images, num_classes, side)),
        val=ImageReader(Noise(tested, num_classes, side)),
        fingerprint=f"{images} x {side} of {num_classes}",
        native_size=side,
    )
