"""A task without real images: they are behind a door that the release alone opens."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from gencond_fast.condensation.private.proxy_images import draw_stand_in
from gencond_fast.condensation.task import SAMPLE_BYTES, Setting, Task
from gencond_fast.data.contract import Block, Split
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.readers.image_reader import ImageReader


class Sealed(Split):
    """The labels of a split, whose images cannot be read."""

    def __init__(self, split: Split) -> None:
        self.labels = split.labels
        self.shape = split.shape

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """Raises RuntimeError: a guarantee would be broken."""
        raise RuntimeError("real images were asked for beyond the one release of a private run")

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"image {index}"


@dataclass(frozen=True, eq=False)
class PrivateTask(Task):
    """A task whose source is sealed, whose sample is noise and whose normalisation is fixed.

    Attributes:
        images: the real ones, for `release` and nobody else.
    """

    images: ImageReader


def open_private_task(setting: Setting) -> PrivateTask:
    """Seals the source of a setting, of which no image has been read."""
    source, size = setting.source, setting.image_size
    each = SAMPLE_BYTES // (setting.num_classes * source.channels * size**2)
    per_class = max(1, min(each, setting.config.networks.train_images))
    train = ImageReader(Sealed(source.train.split))
    sealed = replace(setting, source=replace(source, train=train, val=None))
    return PrivateTask(
        **vars(sealed),
        sample=draw_stand_in(
            setting.num_classes, source.channels, size, per_class, setting.config.seed
        ),
        normalisation=Normalisation((0.5,) * source.channels, (0.5,) * source.channels),
        images=source.train,
    )
