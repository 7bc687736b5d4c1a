"""Random windows of images. The window of an image does not depend on how the image is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gencond_fast.system.rng import derive_seed

Window = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the upright image."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_DRAWS = 4


@dataclass(frozen=True)
class RandomCrop:
    """A window of random area and aspect ratio for each image (1409.4842), in one epoch.

    The area is uniform, the ratio log-uniform and the place uniform, in whole pixels. A side that
    is longer than the image is cut to it. (torchvision's RandomResizedCrop instead draws again, up
    to ten times, and then takes the centre.)

    Attributes:
        seed: of the run.
        epoch: pass over the images.
        area: smallest and largest area, as a share of the image's.
        ratio: smallest and largest ratio of width to height.
    """

    seed: int
    epoch: int
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def draws(self, rows: np.ndarray) -> np.ndarray:
        """The random numbers for the windows at `rows`: float64 [n, 4], uniform in [0, 1)."""
        start = np.uint64(derive_seed(self.seed, "crop", self.epoch))
        count = np.arange(_DRAWS, dtype=np.uint64) + np.uint64(1)
        with np.errstate(over="ignore"):
            state = start + (rows.astype(np.uint64)[:, None] * np.uint64(_DRAWS) + count) * _GOLDEN
        return (_mixed(state) >> np.uint64(11)) * 2.0**-53

    def windows(self, draws: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
        """The windows in images of known sizes.

        Args:
            draws: float64 [n, 4], from `draws`.
            width: [n], pixels.
            height: [n], pixels.

        Returns:
            int64 [n, 4]: left, top, right and bottom, within the image and not empty.
        """
        share, ratio, across_at, down_at = self.shapes(draws).T
        area = width * height * share
        across = np.clip(np.rint(np.sqrt(area * ratio)), 1, width)
        down = np.clip(np.rint(np.sqrt(area / ratio)), 1, height)
        left = np.floor(across_at * (width - across + 1))
        top = np.floor(down_at * (height - down + 1))
        return np.stack((left, top, left + across, top + down), axis=1).astype(np.int64)

    def shapes(self, draws: np.ndarray) -> np.ndarray:
        """The windows relative to images whose sizes are not known yet: float64 [n, 4].

        The columns are the share of the area, the ratio of width to height, and the place in the
        room that is left across and down, in [0, 1).
        """
        least, most = self.area
        low, high = np.log(self.ratio)
        share = least + draws[:, 0] * (most - least)
        ratio = np.exp(low + draws[:, 1] * (high - low))
        return np.stack((share, ratio, draws[:, 2], draws[:, 3]), axis=1)


def window(shape: Sequence[float], width: int, height: int) -> Window:
    """The window of one image from a row of `RandomCrop.shapes`; the same as `windows` gives."""
    share, ratio, across_at, down_at = shape
    area = width * height * share
    across = min(max(round(math.sqrt(area * ratio)), 1), width)
    down = min(max(round(math.sqrt(area / ratio)), 1), height)
    left, top = int(across_at * (width - across + 1)), int(down_at * (height - down + 1))
    return left, top, left + across, top + down


def _mixed(state: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014), uint64 to uint64."""
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
