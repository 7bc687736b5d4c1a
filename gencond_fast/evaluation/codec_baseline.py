"""Baselines of equal bytes: random real images, stored by an image codec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gencond_fast.data.sample import Sample, draw_sample
from gencond_fast.data.source import Source
from gencond_fast.evaluation.codecs import CodecName, Coded, decode, encode
from gencond_fast.system.machine import own_cores

_QUALITIES: dict[CodecName, int] = {"jpeg": 20, "avif": 25}
_FIRST_DRAW, _MARGIN = 16, 1.25  # images a class that are encoded to see about how many fit


@dataclass(frozen=True, eq=False)
class CodedImages:
    """The same number of images of every class, where it has so many, as they would be stored.

    Attributes:
        images: class after class.
        labels: int64 [n], ascending.
        per_class: images of the largest class.
        channels: of the images, 1 or 3.
    """

    images: list[Coded]
    labels: Tensor
    per_class: int
    channels: int

    @property
    def size(self) -> int:
        """Bytes of all images, and once of what they share."""
        shared = self.images[0].shared if self.images else 0
        return shared + sum(each.own for each in self.images)

    def first(self, per_class: int) -> CodedImages:
        """The first images of each class."""
        kept = np.flatnonzero(_rank(self.labels) < per_class)
        images = [self.images[place] for place in kept]
        return CodedImages(images, self.labels[torch.from_numpy(kept)], per_class, self.channels)

    def decoded(self) -> Tensor:
        """What they decode to: uint8 [n, channels, S, S]."""
        pixels = np.stack([decode(each.file, self.channels) for each in self.images])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def usual_quality(codec: CodecName) -> int:
    """That which gave students the best accuracy on held-out images: docs/guides/evaluation.md."""
    return _QUALITIES[codec]


def fit_coded(
    source: Source,
    codec: CodecName,
    *,
    quality: int,
    image_size: int,
    max_bytes: int,
    max_memory: int,
    seed: int,
) -> CodedImages:
    """As many random training images of each class as `max_bytes` hold.

    What all images share counts once, see `gencond_fast.evaluation.codecs`. Labels are free, for
    they follow from the order.

    Args:
        source: where the images come from.
        codec: that stores them.
        quality: from 1 to 100.
        image_size: S, height and width.
        max_bytes: for all of them.
        max_memory: the most bytes of pixels at once; fewer images are drawn to keep to it.
        seed: chooses the images and their order: those of `draw_sample`, the first ones of each
            class. A class with fewer images gives all it has.

    Returns:
        The images, none where one of each class does not fit.

    Raises:
        InputError: an image cannot be read.
    """
    wanted = _FIRST_DRAW
    while True:
        sample = draw_sample(
            source, image_size=image_size, per_class=wanted, max_bytes=max_memory, seed=seed
        )
        drawn = _encoded(sample, codec, quality)
        ranks = _rank(drawn.labels)
        sizes = np.bincount(ranks, [each.own for each in drawn.images])
        totals = drawn.images[0].shared + np.cumsum(sizes)
        fitting = int(np.searchsorted(totals, max_bytes, side="right"))
        if fitting < wanted:  # the bytes are used up, or there are no more images
            return drawn.first(fitting)
        wanted = int(_MARGIN * wanted * max_bytes / totals[-1]) + 1


def _encoded(sample: Sample, codec: CodecName, quality: int) -> CodedImages:
    pixels = sample.images.permute(0, 2, 3, 1).numpy()
    with ThreadPoolExecutor(own_cores()) as threads:
        images = list(threads.map(lambda each: encode(codec, each, quality), pixels))
    per_class = int(torch.bincount(sample.labels).max())
    return CodedImages(images, sample.labels, per_class, pixels.shape[3])


def _rank(labels: Tensor) -> np.ndarray:
    """Each image's place in its class, of ascending labels."""
    counts = np.bincount(labels.numpy())
    return np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
