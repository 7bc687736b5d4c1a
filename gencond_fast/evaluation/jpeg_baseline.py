"""A baseline of equal bytes: random real images, stored as JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gencond_fast.data.sample import Sample, draw_sample
from gencond_fast.data.source import Source

QUALITY = 20
_SUBSAMPLING = "4:2:0"
_FIRST_DRAW, _GROWTH = 16, 4  # images a class that are encoded to see whether more would fit
_TABLES, _IMAGE = 1, 2  # Pillow's streamtype: parts of the abbreviated format, T.81 annex B.5
_MARKER = 2  # bytes of one that begins or ends a stream


@dataclass(frozen=True, eq=False)
class Jpegs:
    """The same number of images of every class, where it has so many, as they would be stored.

    Attributes:
        tables: quantisation and Huffman tables of all images, a stream of their own.
        streams: one an image, without tables, class after class.
        labels: int64 [n], ascending.
        per_class: images of the largest class.
    """

    tables: bytes
    streams: list[bytes]
    labels: Tensor
    per_class: int

    @property
    def size(self) -> int:
        """Bytes of tables and streams one after another."""
        return len(self.tables) + sum(map(len, self.streams))

    def first(self, per_class: int) -> Jpegs:
        """The first images of each class."""
        kept = np.flatnonzero(_rank(self.labels) < per_class)
        streams = [self.streams[place] for place in kept]
        return Jpegs(self.tables, streams, self.labels[torch.from_numpy(kept)], per_class)

    def images(self) -> Tensor:
        """What they decode to: uint8 [n, channels, S, S]."""
        return torch.stack([_decoded(self.tables, stream) for stream in self.streams])


def fit_jpegs(
    source: Source, *, image_size: int, max_bytes: int, max_memory: int, seed: int
) -> Jpegs:
    """As many random training images of each class as `max_bytes` hold in the abbreviated format.

    That format (ITU T.81, annex B.5) keeps the tables, which are the same for all images of one
    quality, once: at 32 pixels they are most of a JPEG file. Quality is `QUALITY`, colour is
    subsampled 4:2:0. Labels are free, for they follow from the order.

    Args:
        source: where the images come from.
        image_size: S, height and width.
        max_bytes: for tables and streams together.
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
        drawn = _encoded(sample)
        sizes = np.array([len(stream) for stream in drawn.streams])
        totals = len(drawn.tables) + np.cumsum(np.bincount(_rank(drawn.labels), sizes))
        fitting = int(np.searchsorted(totals, max_bytes, side="right"))
        if fitting < wanted:  # the bytes are used up, or there are no more images
            return drawn.first(fitting)
        wanted *= _GROWTH


def _encoded(sample: Sample) -> Jpegs:
    pictures = [Image.fromarray(_pixels(image)) for image in sample.images]
    per_class = int(torch.bincount(sample.labels).max())
    streams = [_stream(picture, _IMAGE) for picture in pictures]
    return Jpegs(_stream(pictures[0], _TABLES), streams, sample.labels, per_class)


def _pixels(image: Tensor) -> np.ndarray:
    array = image.permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array


def _stream(picture: Image.Image, kind: int) -> bytes:
    colour = {"subsampling": _SUBSAMPLING} if picture.mode == "RGB" else {}
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, streamtype=kind, **colour)
    return file.getvalue()


def _decoded(tables: bytes, stream: bytes) -> Tensor:
    """Tables and image joined are an ordinary JPEG file."""
    file = io.BytesIO(tables[:-_MARKER] + stream[_MARKER:])
    with Image.open(file) as picture:
        array = np.array(picture)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)


def _rank(labels: Tensor) -> np.ndarray:
    """Each image's place in its class, of ascending labels."""
    counts = np.bincount(labels.numpy())
    return np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
