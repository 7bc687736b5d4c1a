"""What every part of a condensation needs to know about the data and the machine."""

from __future__ import annotations

from dataclasses import dataclass

from gencond_fast.config import Config
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.sample import Sample
from gencond_fast.data.source import Source
from gencond_fast.progress import Reporter
from gencond_fast.runtime import Runtime


@dataclass(frozen=True, eq=False)
class Task:
    """One data set to condense, opened and measured.

    Attributes:
        config: all options.
        source: the data set.
        image_size: side in pixels that everything works at.
        sample: real images in memory, in random order within each class.
        normalisation: of the real images.
        runtime: device, precision, compilation.
        reporter: told of progress.
    """

    config: Config
    source: Source
    image_size: int
    sample: Sample
    normalisation: Normalisation
    runtime: Runtime
    reporter: Reporter

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.source.class_names)

    @property
    def identity(self) -> dict[str, object]:
        """What anything computed from the real images depends on, for cache keys."""
        return {
            "fingerprint": self.source.fingerprint,
            "image_size": self.image_size,
            "seed": self.config.seed,
            "train_images": self.config.networks.train_images,
            "precision": self.runtime.describe(),
        }
