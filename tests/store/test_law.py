"""Probabilities of levels against SciPy's logistic distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import logistic

from gencond_fast.store import law


def exact(levels: np.ndarray, mean: float, log_scale: float, zero: float) -> np.ndarray:
    scale = np.exp(log_scale)
    mass = logistic.cdf(levels + 0.5, mean, scale) - logistic.cdf(levels - 0.5, mean, scale)
    share = expit(zero + law.ZERO_SHIFT)
    return (1 - share) * mass + share * (levels == 0)


@pytest.mark.parametrize("parameters", [(0.0, 0.0, 0.0), (1.3, -1.0, 2.0), (-4.0, 2.0, -3.0)])
def test_bits_are_code_lengths(parameters: tuple[float, float, float]) -> None:
    levels = np.arange(-12, 13).astype(np.float64)
    found = law.bits(
        torch.tensor(levels), law.Law(*(torch.full((25,), p).double() for p in parameters))
    )
    want = -np.log2(np.maximum(exact(levels, *parameters), 1e-6))
    assert np.allclose(found.numpy(), want, atol=1e-6)


def test_tables_hold_the_same_law() -> None:
    flags, values = law.flag_table(), law.value_table()
    rng = np.random.default_rng(0)
    for _ in range(40):
        mean, scale, zero = (
            int(rng.integers(0, 2 * most + 1))
            for most in (law.MOST_MEAN, law.MOST_SCALE, law.MOST_ZERO)
        )
        numbers = (
            (mean - law.MOST_MEAN) * law.MEAN_STEP,
            (scale - law.MOST_SCALE) * law.SCALE_STEP,
            (zero - law.MOST_ZERO) * law.ZERO_STEP,
        )
        at_zero = exact(np.zeros(1), *numbers)[0]
        assert flags[mean, scale, zero] == pytest.approx(1 - at_zero, abs=1e-9)
        row = values[mean, scale]
        assert row.sum() == pytest.approx(1, abs=1e-5)
        small = exact(np.array([-2.0, -1.0, 1.0, 2.0]), *numbers)
        chosen = row[[1, 0, law.RANGES, law.RANGES + 1]]
        if small.sum() > 1e-4:
            assert np.allclose(chosen / chosen.sum(), small / small.sum(), atol=1e-4)


def test_ranges_cover_every_level_once() -> None:
    assert law.EDGES[0] == 1
    assert (np.diff(law.EDGES) > 0).all()
    assert law.EDGES[-1] > 1000


def test_the_exponential_is_the_usual_one() -> None:
    x = np.linspace(-600, 600, 10_001)
    assert np.allclose(law.exact_exp(x), np.exp(x), rtol=1e-12)


def test_the_best_laws_of_bands_are_those_of_a_search_over_all():
    torch.manual_seed(0)
    levels = torch.stack([(torch.randn(5, 4, 4) * size).round() for size in (0.0, 0.3, 3, 200)], 1)
    found, size = law.best_of_bands(levels)
    flag, value = law.flag_table()[law.MOST_MEAN], law.value_table()[law.MOST_MEAN]
    total = 0.0
    for band, chosen in zip(levels.transpose(0, 1), found, strict=True):
        costs = np.zeros(flag.shape)
        for level in band.flatten().int().tolist():
            costs -= np.log2(flag if level else 1.0 - flag)
            if level:
                place = int(np.searchsorted(law.EDGES, abs(level), side="right")) - 1
                many = law.EDGES[place + 1] - law.EDGES[place]
                odds = value[:, place + law.RANGES * (level > 0)].astype(np.float64)
                costs += (np.log2(many) - np.log2(odds))[:, None]
        scale = round(float(chosen[0]) / law.SCALE_STEP) + law.MOST_SCALE
        zero = round(float(chosen[1]) / law.ZERO_STEP) + law.MOST_ZERO
        assert costs[scale, zero] <= costs.min() + 1e-6
        total += costs.min() / 8
    assert size == pytest.approx(total, rel=1e-6)
