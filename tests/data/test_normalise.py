"""Normalisation against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_builders import noise

from gencond_fast.data.normalise import Normalisation, measure


@given(
    n=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    side=st.integers(1, 9),
    low=st.integers(0, 250),
    seed=st.integers(0, 99),
)
def test_measure_against_numpy(n, channels, side, low, seed):
    images = np.maximum(noise(n, channels, side, side, seed=seed), low)
    got = measure(torch.from_numpy(images))
    for c in range(channels):
        values = images[:, c].astype(np.float64) / 255
        assert got.mean[c] == pytest.approx(values.mean(), abs=5.01e-5)
        assert got.std[c] == pytest.approx(max(values.std(), 1e-3), abs=5.01e-5)
    assert len(got.mean) == len(got.std) == channels


def test_measure_has_four_decimals_and_is_exact_for_many_pixels():
    images = torch.full((40, 1, 512, 512), 51, dtype=torch.uint8)
    images[20:] = 153
    assert measure(images) == Normalisation((0.4,), (0.2,))


def test_one_colour_does_not_divide_by_zero():
    blank = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    normalisation = measure(blank)
    assert normalisation.std == (0.001,) * 3
    assert normalisation(blank).isfinite().all()


def test_layout_of_memory_does_not_matter():
    images = torch.from_numpy(noise(6, 3, 5, 7))
    assert measure(images) == measure(images.contiguous(memory_format=torch.channels_last))


def test_applied_to_bytes_and_to_floats():
    normalisation = Normalisation((0.5, 0.2, 0.1), (0.25, 0.5, 0.3))
    images = torch.from_numpy(noise(4, 3, 6, 5))
    mean = np.array(normalisation.mean).reshape(1, 3, 1, 1)
    want = (images.numpy() / 255 - mean) / np.array(normalisation.std).reshape(1, 3, 1, 1)
    for given_images in (images, images.float() / 255):
        got = normalisation(given_images)
        assert got.dtype == torch.float32
        assert got.shape == images.shape
        np.testing.assert_allclose(got.numpy(), want, atol=2e-6)


def test_its_own_images_get_mean_zero_and_deviation_one():
    images = torch.from_numpy(noise(50, 3, 16, 16)) // torch.tensor([1, 2, 3]).view(1, 3, 1, 1)
    images = images.to(torch.uint8)
    got = measure(images)(images).double()
    assert got.mean((0, 2, 3)).abs().max() < 1e-3
    assert (got.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_differentiable():
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    Normalisation((0.5,) * 3, (0.1, 0.2, 0.4))(images).sum().backward()
    want = torch.tensor([10.0, 5.0, 2.5]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert torch.allclose(images.grad, want)
