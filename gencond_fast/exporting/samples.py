"""The samples that are exported, decoded a few at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gencond_fast.exporting.figures import to_picture, to_uint8
from gencond_fast.store.artifact import Artifact, Metadata

_BATCH = 64  # keeps the maps inside the decoder of large images to a gigabyte or two


@dataclass(frozen=True, eq=False)
class Samples:
    """The first samples of each class of a condensed file.

    Attributes:
        artifact: the file.
        per_class: how many, no more than there are.
    """

    artifact: Artifact
    per_class: int

    def __len__(self) -> int:
        return self.metadata.store.num_classes * self.per_class

    @property
    def metadata(self) -> Metadata:
        """Of the file."""
        return self.artifact.metadata

    @property
    def labels(self) -> Tensor:
        """Classes int64 [n], ascending."""
        return torch.arange(len(self)) // self.per_class

    def images(self) -> Iterator[Tensor]:
        """Batches float32 [B, channels, S, S] in [0, 1], class after class."""
        with torch.no_grad():
            for part in self._index.split(_BATCH):
                yield self.artifact.store(part)

    def pixels(self) -> Iterator[np.ndarray]:
        """Batches uint8 [B, S, S, channels]."""
        return map(to_uint8, self.images())

    def pngs(self) -> Iterator[list[bytes]]:
        """Batches of images as PNG files."""
        return ([_png(each) for each in batch] for batch in self.pixels())

    def soft_labels(self) -> np.ndarray | None:
        """Probabilities float32 [n, C], None where the file has hard labels alone."""
        if not self.metadata.store.soft_labels:
            return None
        return self.artifact.store.targets(self._index).numpy()

    @property
    def _index(self) -> Tensor:
        spec = self.metadata.store
        first = torch.arange(spec.num_classes)[:, None] * spec.per_class
        return (first + torch.arange(self.per_class)).flatten()


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    to_picture(pixels).save(file, "PNG")
    return file.getvalue()
