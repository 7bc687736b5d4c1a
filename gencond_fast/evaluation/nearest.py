"""How close stored samples lie to training images: whether a file shows its photographs.

Membership inference asks what a student has learned; an eye sees at once whether a sample is a
photograph. Distances here are of pixels: the root of the mean squared difference, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from gencond_fast.data.readers.batch import Batch
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.system.rng import named_rng

MOST_SAMPLES = 200  # stored samples that are compared, and as many training images
_BATCH = 256


@dataclass(frozen=True)
class Neighbour:
    """A stored sample and the training image that is nearest to it.

    Attributes:
        sample: number of the stored sample.
        image: the training image, as its data set names it.
        distance: between the two.
    """

    sample: int
    image: str
    distance: float


@dataclass(frozen=True)
class NearestImages:
    """Distances to the nearest training image, of stored samples and of training images.

    Attributes:
        neighbours: of the samples compared, the closest first.
        stored: median distance of a stored sample to the nearest training image.
        training: median distance of a training image to the nearest other one.
        closer: share of the samples that are closer to a training image than half of the training
            images are to another.
    """

    neighbours: tuple[Neighbour, ...]
    stored: float
    training: float
    closer: float

    @property
    def sentence(self) -> str:
        """What the distances say."""
        return (
            f"the median of {len(self.neighbours):,} stored samples lies {self.stored:.4f} from "
            "the nearest training image (root mean square of pixels from 0 to 1), the median "
            f"training image {self.training:.4f} from the nearest other one; "
            f"{100 * self.closer:.0f} % of the stored samples are closer to a training image than "
            "half of the training images are to another"
        )

    @classmethod
    def from_dict(cls, values: Any) -> NearestImages:
        """What `dataclasses.asdict` made of one, and JSON of that.

        Raises:
            ValueError: it is something else.
        """
        return _FROM_JSON.validate_python(values)


_FROM_JSON = TypeAdapter(NearestImages)


def nearest_images(samples: Tensor, numbers: Tensor, source: Source) -> NearestImages:
    """Compares stored samples with all training images.

    Args:
        samples: decoded, float32 [M, channels, S, S] in [0, 1].
        numbers: int64 [M], of the samples in the file.
        source: the training images.
    """
    train = source.train
    count = min(MOST_SAMPLES, len(train))
    drawn = torch.randperm(len(train), generator=named_rng(0, "nearest images"))[:count]
    rows = np.sort(drawn.numpy())
    size = samples.shape[-1]
    options: Any = {"channels": source.channels, "image_size": size, "batch_size": _BATCH}
    asked = list(stream(train, indices=rows, **options))
    own = torch.cat([batch.indices for batch in asked])
    images = torch.cat([_values(batch.images) for batch in asked])
    queries = torch.cat([samples.flatten(1), images])
    no_row = torch.full((len(samples),), -1)
    squares, nearest = _search(queries, torch.cat([no_row, own]), stream(train, **options))
    distances = (squares / queries.shape[1]).sqrt()
    of_samples, of_images = distances.split([len(samples), len(images)])
    neighbours = [
        Neighbour(int(number), train.split.where(int(row)), float(distance))
        for number, row, distance in zip(numbers, nearest, of_samples, strict=False)
    ]
    usual = float(of_images.median())
    return NearestImages(
        tuple(sorted(neighbours, key=lambda each: each.distance)),
        float(of_samples.median()),
        usual,
        float((of_samples < usual).double().mean()),
    )


def _values(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255


def _search(queries: Tensor, own: Tensor, batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
    """Smallest squared distances float32 [Q] and their rows, but for the row that a query is."""
    best = torch.full((len(queries),), torch.inf)
    rows = torch.full((len(queries),), -1)
    norms = queries.square().sum(1, keepdim=True)
    for batch in batches:
        images = _values(batch.images)
        squares = norms + images.square().sum(1) - 2 * queries @ images.T
        squares[own.unsqueeze(1) == batch.indices] = torch.inf
        found, place = squares.clamp(min=0).min(1)
        nearer = found < best
        best = torch.where(nearer, found, best)
        rows = torch.where(nearer, batch.indices[place], rows)
    return best, rows
