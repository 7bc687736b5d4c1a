"""Which frequencies of an image are kept: the lowest ones of each channel.

A zone (of the zonal coding of transforms) says of each channel how many they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def lowest(count: int, size: int) -> Tensor:
    """The `count` lowest of the size x size frequencies: int64 [count, 2], rows and columns.

    In ascending order of the radius; of equal ones that with the lower row comes first.

    Raises:
        ValueError: there are not so many.
    """
    if not 0 <= count <= size * size:
        raise ValueError(f"{count} frequencies cannot be kept of {size} x {size}")
    # a quarter of a disc of that area fits into a square of this side
    side = min(size, math.ceil(math.sqrt(4.0 * count / math.pi)) + 2)
    row = torch.arange(side).repeat_interleave(side)
    column = torch.arange(side).repeat(side)
    order = (row * row + column * column).argsort(stable=True)[:count]
    return torch.stack((row[order], column[order]), dim=1)


def cosines(kept: int, size: int) -> Tensor:
    """The `kept` lowest rows of the orthonormal DCT-II: float32 [kept, size]."""
    place = torch.arange(size, dtype=torch.float64)
    frequency = torch.arange(kept, dtype=torch.float64)[:, None]
    waves = torch.cos(math.pi * frequency * (2.0 * place + 1.0) / (2 * size))
    waves *= math.sqrt(2.0 / size)
    waves[:1] /= math.sqrt(2.0)
    return waves.float()


def even_zone(count: int, channels: int) -> Tensor:
    """`count` frequencies shared out evenly: int32 [channels], the first ones have one more."""
    each, more = divmod(count, channels)
    return each + (torch.arange(channels) < more).int()


def strongest_zone(power: Tensor, count: int) -> Tensor:
    """How many of the `count` strongest frequencies each channel has: int32 [channels].

    Args:
        power: float [channels, S, S], of each frequency over all images.
        count: at most channels * S * S.
    """
    strongest = power.flatten().argsort(descending=True, stable=True)[:count]
    channel = strongest // power[0].numel()
    return torch.bincount(channel, minlength=len(power)).int().cpu()
