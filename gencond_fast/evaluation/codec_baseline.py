"""Baselines of equal bytes: random real images, stored by an image codec."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import Source
from gencond_fast.evaluation.codec_cache import encode_all
from gencond_fast.exporting.codecs import CodecName, Coded, decode
from gencond_fast.store.budget import usual_sample_bytes

_QUALITIES = range(5, 100, 5)  # from which one is chosen
_TRIED = 32  # images on which qualities are tried
_FIRST_DRAW, _GROWTH = 16, 1.25  # images a class that are encoded to see about how many fit
_FIRST_IMAGES = 1024  # of all classes, at most


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
        """Bytes of all images, without what they share."""
        return sum(each.own for each in self.images)

    def first(self, per_class: int) -> CodedImages:
        """The first images of each class."""
        kept = np.flatnonzero(_rank(self.labels) < per_class)
        images = [self.images[place] for place in kept]
        return CodedImages(images, self.labels[torch.from_numpy(kept)], per_class, self.channels)

    def decoded(self) -> Tensor:
        """What they decode to: uint8 [n, channels, S, S]."""
        pixels = np.stack([decode(each.file, self.channels) for each in self.images])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def quality_of(codec: CodecName, pixels: np.ndarray, image_bytes: float) -> int:
    """The largest multiple of 5 at which images weigh no more on average; 5 where none does.

    Args:
        codec: that stores them.
        pixels: uint8 [n, S, S, channels], some images.
        image_bytes: the bytes.
    """
    low, high = 0, len(_QUALITIES) - 1
    while low < high:
        middle = (low + high + 1) // 2
        coded = encode_all(codec, pixels, _QUALITIES[middle])
        if sum(each.own for each in coded) <= image_bytes * len(pixels):
            low = middle
        else:
            high = middle - 1
    return _QUALITIES[low]


def choose_quality(
    source: Source,
    codec: CodecName,
    *,
    image_size: int,
    max_bytes: int,
    max_memory: int,
    seed: int,
) -> int:
    """The quality at which images weigh as much as samples of `dct`, see `usual_sample_bytes`.

    Whether that is the best one for students of image codecs has not been measured.

    Where all images would leave bytes unused at that quality, a higher one.

    Args:
        source: where the images come from.
        codec: that stores them.
        image_size: S, height and width.
        max_bytes: for all images.
        max_memory: the most bytes of pixels at once.
        seed: chooses the few images on which qualities are tried.

    Raises:
        InputError: an image cannot be read.
    """
    classes = len(source.class_names)
    sizes = {"channels": source.channels, "image_size": image_size}
    wanted = usual_sample_bytes(max_bytes, num_classes=classes, **sizes)
    wanted = max(wanted, max_bytes / len(source.train))
    sample = draw_sample(
        source,
        image_size=image_size,
        per_class=-(-_TRIED // classes),
        max_bytes=max_memory,
        seed=seed,
    )
    places = np.linspace(0, len(sample.images) - 1, min(_TRIED, len(sample.images))).astype(int)
    pixels = sample.images[torch.from_numpy(places)].permute(0, 2, 3, 1).numpy()
    return quality_of(codec, pixels, wanted)


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

    What all images share is free, see `gencond_fast.exporting.codecs`. So are labels, for they
    follow from the order.

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
    wanted = max(1, min(_FIRST_DRAW, _FIRST_IMAGES // len(source.class_names)))
    while True:
        sample = draw_sample(
            source, image_size=image_size, per_class=wanted, max_bytes=max_memory, seed=seed
        )
        pixels = sample.images.permute(0, 2, 3, 1).numpy()
        images = encode_all(codec, pixels, quality)
        most = int(torch.bincount(sample.labels).max())
        drawn = CodedImages(images, sample.labels, most, source.channels)
        totals = np.cumsum(np.bincount(_rank(drawn.labels), [each.own for each in images]))
        fitting = int(np.searchsorted(totals, max_bytes, side="right"))
        if fitting < wanted:  # the bytes are used up, or there are no more images
            return drawn.first(fitting)
        needed = wanted * max_bytes / totals[-1]
        while wanted <= needed:  # steps, so that files of nearly the same size ask for the same
            wanted = math.ceil(_GROWTH * wanted)


def _rank(labels: Tensor) -> np.ndarray:
    """Each image's place in its class, of ascending labels."""
    counts = np.bincount(labels.numpy())
    return np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
