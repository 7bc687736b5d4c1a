"""The block transform of images, and the order of its bands.

A band is one frequency of one channel, over all blocks. Block transforms do not ring over a whole
image, and their levels have neighbours that tell how large they will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.store.zone import cosines, lowest

_USUAL = 8  # side of a block in pixels
_SMALLEST, _LARGEST = 6, 12  # of a block that divides the image side


class Band(NamedTuple):
    """One frequency of one channel."""

    channel: int
    row: int
    column: int


def block_side(image_size: int) -> int:
    """The side nearest to 8 pixels that divides the image side; 8 where none does."""
    if image_size <= _USUAL:
        return image_size
    fitting = [b for b in range(_SMALLEST, _LARGEST + 1) if image_size % b == 0]
    return min(fitting, key=lambda b: abs(b - _USUAL), default=_USUAL)


def bands_of(zone: Sequence[int], block: int) -> list[Band]:
    """The bands of a zone in the order in which they are coded: low frequencies first.

    Args:
        zone: how many of the lowest frequencies of each channel there are.
        block: side of a block.

    Raises:
        ValueError: a channel has not so many.
    """
    with torch.device("cpu"):  # where the stored set itself is on none
        found = [
            Band(channel, row, column)
            for channel, count in enumerate(zone)
            for row, column in lowest(count, block).tolist()
        ]
    return sorted(found, key=lambda band: (band.row**2 + band.column**2, band))


class BlockTransform(nn.Module):
    """The orthonormal DCT-II of the blocks of images, padded by their edge to whole blocks.

    Args:
        channels: of the images.
        image_size: S, their side.
        block: b, side of a block.
    """

    basis: Tensor

    def __init__(self, channels: int, image_size: int, block: int) -> None:
        super().__init__()
        self.channels, self.image_size, self.block = channels, image_size, block
        self.grid = -(-image_size // block)
        self.register_buffer("basis", cosines(block, block), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Coefficients [n, channels * b * b, g, g] of images [n, channels, S, S]."""
        block, grid = self.block, self.grid
        missing = grid * block - self.image_size
        if missing:
            images = F.pad(images, (0, missing, 0, missing), mode="replicate")
        images = images.reshape(-1, self.channels, grid, block, grid, block)
        turned = torch.einsum("ux,ncixjy,vy->ncuvij", self.basis, images, self.basis)
        return turned.reshape(len(images), -1, grid, grid)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Images [n, channels, S, S] of coefficients as `forward` gives them."""
        block, grid, side = self.block, self.grid, self.image_size
        coefficients = coefficients.reshape(-1, self.channels, block, block, grid, grid)
        turned = torch.einsum("ux,ncuvij,vy->ncixjy", self.basis, coefficients, self.basis)
        return turned.reshape(-1, self.channels, grid * block, grid * block)[..., :side, :side]
