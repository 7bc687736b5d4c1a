"""Which frequencies are kept, and the transform that they are frequencies of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.store.zone import cosines, even_zone, lowest, strongest_zone


def by_sorting(count: int, size: int) -> list[tuple[int, int]]:
    every = [(row, column) for row in range(size) for column in range(size)]
    return sorted(every, key=lambda at: (at[0] ** 2 + at[1] ** 2, at[0]))[:count]


@given(size=st.integers(1, 40), part=st.floats(0, 1))
def test_lowest_are_the_first_of_all_in_order(size, part):
    count = round(part * size * size)
    found = lowest(count, size)
    assert found.dtype == torch.int64
    assert found.shape == (count, 2)
    assert [tuple(at) for at in found.tolist()] == by_sorting(count, size)


@pytest.mark.parametrize("size", [1, 5, 16])
def test_every_number_of_frequencies(size):
    for count in range(size * size + 1):
        assert [tuple(at) for at in lowest(count, size).tolist()] == by_sorting(count, size)


@pytest.mark.parametrize("count", [-1, 26, 2**31 - 1])
def test_more_frequencies_than_there_are(count):
    with pytest.raises(ValueError, match="cannot be kept of 5 x 5"):
        lowest(count, 5)


@pytest.mark.parametrize("size", [1, 2, 5, 8, 33, 128])
def test_cosines_are_the_orthonormal_dct(size):
    want = np.empty((size, size))
    for k in range(size):
        for n in range(size):
            norm = math.sqrt((1 if k == 0 else 2) / size)
            want[k, n] = norm * math.cos(math.pi * k * (n + 0.5) / size)
    found = cosines(size, size)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - want).max() < 1e-7
    assert np.abs(want @ want.T - np.eye(size)).max() < 1e-12
    assert torch.equal(cosines(max(1, size // 3), size), found[: max(1, size // 3)])


@given(count=st.integers(0, 100), channels=st.sampled_from([1, 3]))
def test_an_even_zone(count, channels):
    zone = even_zone(count, channels)
    assert zone.dtype == torch.int32
    assert zone.sum() == count
    assert zone.max() - zone.min() <= 1
    assert zone.tolist() == sorted(zone.tolist(), reverse=True)


@given(seed=st.integers(0, 2**20), channels=st.sampled_from([1, 3]), count=st.integers(1, 49))
def test_the_strongest_are_counted_in_each_channel(seed, channels, count):
    rng = np.random.default_rng(seed)
    power = rng.permutation(channels * 49).reshape(channels, 7, 7).astype(np.float32)
    threshold = np.sort(power.flatten())[-count]
    want = [int((each >= threshold).sum()) for each in power]
    assert strongest_zone(torch.from_numpy(power), count).tolist() == want
    assert strongest_zone(torch.from_numpy(power), count).dtype == torch.int32


def test_of_equal_frequencies_the_first_channel_has_more():
    assert strongest_zone(torch.zeros(3, 4, 4), 20).tolist() == [16, 4, 0]
