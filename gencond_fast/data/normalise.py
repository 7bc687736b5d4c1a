"""Normalisation: from uint8 or [0, 1] to the images of mean 0 that networks take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, for images in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Normalises images [B, channels, H, W], uint8 or float in [0, 1], to float32.

        It is differentiable in float images.
        """
        scale = 1.0 / 255.0 if images.dtype == torch.uint8 else 1.0
        factor, shift = _constants(self.mean, self.std, scale, images.device)
        return images * factor - shift


@lru_cache(maxsize=64)  # else each call copies them to the device, and waits for it
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], scale: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What images are multiplied by, and what is taken off: float32 [1, channels, 1, 1] each."""
    means, stds = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (mean, std))
    return (scale / stds).to(device), (means / stds).to(device)


_COUNTED = 512  # images at a time


def measure(images: Tensor) -> Normalisation:
    """Mean and standard deviation of uint8 images [N, channels, H, W], to four decimals."""
    # one pass over integers: exact, and no copy of the images, which is eight times as large
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for part in images.split(_COUNTED):
        for count, channel in zip(counts, part.transpose(0, 1), strict=True):
            count += torch.bincount(channel.flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255.0
    weights = counts / counts.sum(1, keepdim=True)
    mean = (weights * values).sum(1)
    std = (weights * (values - mean[:, None]).square()).sum(1).sqrt()
    return Normalisation(_rounded(mean), tuple(max(s, 1e-3) for s in _rounded(std)))


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(v, 4) for v in values.tolist())
