"""What every way of reading images is asked for in the benchmark, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gencond_fast.data.crop import RandomCrop


@dataclass(frozen=True, eq=False)
class Job:
    """Images to be read, several times over; the same for all rivals, and sent to their processes.

    Attributes:
        root: the folder of class folders that holds them.
        files: the path of each image, class after class.
        labels: int64 [n].
        shards: the same images as .tar files, one or more for each worker.
        windows: int64 [n, 4], left, top, right and bottom of what is wanted of each image, in
            pixels of the upright image.
        crop: what the windows were drawn by; None where they are the largest centred squares.
        size: S, height and width of the results.
        batch: images in a batch.
        passes: how often each image is read in an epoch.
        workers: threads or processes that decode.
        expected: .npy file, uint8 [n, S, S, 3]: each window resized by Pillow.
        expected_whole: the same for whole images resized and then cropped, to whole pixels; None
            where the windows are random.
    """

    root: str
    files: list[str]
    labels: np.ndarray
    shards: list[str]
    windows: np.ndarray
    crop: RandomCrop | None
    size: int
    batch: int
    passes: int
    workers: int
    expected: str
    expected_whole: str | None

    @property
    def images(self) -> int:
        """How many images an epoch reads."""
        return len(self.files) * self.passes

    @property
    def batches(self) -> int:
        """How many batches an epoch has, where passes share them."""
        return -(-self.images // self.batch)


class Read(NamedTuple):
    """A batch: images uint8 [B, 3, S, S] in any layout, labels and rows int64 [B]."""

    images: Tensor
    labels: Tensor
    rows: Tensor


Epoch = Callable[[], Iterator[Read]]
"""Begins an epoch; what can outlive one (workers, pipelines) does."""

Make = Callable[[Job], Epoch]
"""Prepares all that lasts longer than an epoch."""


@dataclass(frozen=True)
class Way:
    """A way of reading.

    Attributes:
        make: begins it, in a process of its own.
        modules: what is imported before its time starts.
        alone: whether one thread does it all, else as many as the job has workers.
        resized_whole: whether it resizes whole images and then crops, by its nature.
        calibrates: does a part of the work only, so that its images are not looked at.
    """

    make: Make
    modules: tuple[str, ...] = ()
    alone: bool = False
    resized_whole: bool = False
    calibrates: bool = False
