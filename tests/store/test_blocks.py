"""The block transform against SciPy's, and the order of its bands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from gencond_fast.store.blocks import BlockTransform, bands_of, block_side


@pytest.mark.parametrize(("side", "block"), [(16, 8), (28, 7), (9, 9), (13, 8), (4, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_as_scipy_transforms_each_block(side: int, block: int, channels: int) -> None:
    transform = BlockTransform(channels, side, block)
    images = torch.randn(2, channels, side, side, dtype=torch.float32)
    padded = np.pad(
        images.double().numpy(), ((0, 0), (0, 0), *((0, -side % block),) * 2), mode="edge"
    )
    found = transform(images).view(2, channels, block, block, transform.grid, transform.grid)
    for row in range(transform.grid):
        for column in range(transform.grid):
            part = padded[
                :, :, row * block : (row + 1) * block, column * block : (column + 1) * block
            ]
            want = dctn(part, axes=(2, 3), norm="ortho")
            assert np.allclose(found[..., row, column].numpy(), want, atol=1e-5)
    assert torch.allclose(transform.inverse(transform(images)), images, atol=1e-5)


def test_blocks_divide_the_side_where_they_can() -> None:
    for side in (8, 16, 24, 28, 30, 32, 50, 64, 96, 128, 224):
        assert side % block_side(side) == 0, side
    assert block_side(5) == 5
    assert BlockTransform(1, 37, block_side(37)).grid * block_side(37) >= 37


def test_each_band_comes_once_after_all_lower_ones() -> None:
    bands = bands_of([20, 9, 1], 8)
    assert len(bands) == len(set(bands)) == 30
    radius = [band.row**2 + band.column**2 for band in bands]
    assert radius == sorted(radius)
    assert [sum(band.channel == c for band in bands) for c in range(3)] == [20, 9, 1]


def test_more_bands_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be kept"):
        bands_of([65], 8)
