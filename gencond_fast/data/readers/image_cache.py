"""Decoded images in memory, held from the time they are first read."""

from __future__ import annotations

import numpy as np

from gencond_fast.data.readers.batch import Batch, Form


class ImageCache:
    """Images of one split in one form, each held from the time it is added.

    Args:
        form: theirs, without a random crop.
        rows: ascending int64, the images that may be held. Their memory is reserved at once and
            taken from the machine as they are added.

    Raises:
        ValueError: `form` has a random crop.
    """

    def __init__(self, form: Form, rows: np.ndarray) -> None:
        if form.crop is not None:
            raise ValueError("images under random crops are never the same, so none can be kept")
        self.form = form
        self._allot(rows)

    def _allot(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._images = self.form.empty(len(rows))
        self._there = np.zeros(len(rows), bool)

    def __len__(self) -> int:
        """How many images may be held."""
        return len(self._rows)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Which of the images at `rows` are held: bool [n]."""
        places, wanted = self._places(rows)
        wanted[wanted] = self._there[places]
        return wanted

    def add(self, batch: Batch) -> None:
        """Copies those images of a batch that may be held."""
        places, wanted = self._places(batch.indices.numpy())
        self._images[places] = batch.images.cpu().numpy()[wanted]
        self._there[places] = True

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of images that are held: uint8 [n, channels, S, S]."""
        return self._images[np.searchsorted(self._rows, rows)]

    def release(self) -> None:
        """Frees the memory; from now on no image is held, nor will be."""
        self._allot(np.zeros(0, dtype=np.int64))

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of those of `rows` that may be held, and which of `rows` they are: bool [n]."""
        places = np.searchsorted(self._rows, rows)
        wanted = places < len(self._rows)
        wanted[wanted] = self._rows[places[wanted]] == rows[wanted]
        return places[wanted], wanted
