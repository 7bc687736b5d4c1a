"""Precision, recall, density and coverage against all pairs, one by one, in float64."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.evaluation import manifold
from gencond_fast.evaluation.manifold import manifold_scores


def brute_force(real, generated, k: int) -> tuple[float, ...]:
    x, y = (np.asarray(each, dtype=np.float64) for each in (real, generated))

    def radii(points):
        return [
            sorted(np.linalg.norm(p - q) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    apart = np.array([[np.linalg.norm(p - q) for q in y] for p in x])
    in_real = apart <= np.array(radii(x))[:, None]
    in_generated = apart <= np.array(radii(y))[None]
    return (
        in_real.any(0).mean(),
        in_generated.any(1).mean(),
        in_real.sum() / (k * len(y)),
        in_real.any(1).mean(),
    )


@given(
    st.integers(0, 10**6),
    st.integers(3, 40),
    st.integers(3, 40),
    st.integers(1, 9),
    st.integers(1, 50),
    st.floats(-2, 2),
)
def test_all_pairs(seed, n, m, width, block, shift):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, min(n, m)))
    real = torch.from_numpy(rng.normal(1e3, 1, (n, width)))
    generated = torch.from_numpy(rng.normal(1e3 + shift, rng.uniform(0.1, 2), (m, width)))
    got = manifold_scores(real, generated, k=k, block=block)
    assert astuple(got) == pytest.approx(brute_force(real, generated, k), abs=1e-12)


@pytest.mark.parametrize("block", [7, 64])
def test_the_same_samples_are_within_every_ball(block):
    real = torch.randn(50, 16) * 100 + 1e4
    got = manifold_scores(real, real[torch.randperm(50)], k=4, block=block)
    # a sample lies in its own ball and in about 4 others, the farthest on the edge of it
    assert astuple(got) == (1.0, 1.0, pytest.approx(5 / 4), 1.0)


def test_identical_real_samples_have_balls_of_radius_nothing():
    real = torch.randn(1, 8).expand(6, 8) * 50
    got = manifold_scores(real, torch.cat((real[:3], real[:3] + 1)), k=2)
    assert astuple(got) == (0.5, 1.0, 6 * 3 / (2 * 6), 1.0)


def test_sets_far_apart_have_nothing_in_common():
    got = manifold_scores(torch.randn(30, 4), torch.randn(20, 4) + 1e3)
    assert astuple(got) == (0.0, 0.0, 0.0, 0.0)


def test_what_a_set_on_one_spot_covers():
    """Precise but without recall: what the two pairs of scores are for."""
    real, generated = torch.randn(300, 4), 1e-3 * torch.randn(200, 4)
    got = manifold_scores(real, generated, k=5)
    assert got.precision == 1.0
    assert got.recall == 0.0
    assert got.coverage < 0.2
    assert got.density > 1.0


def test_one_distribution_has_density_near_one():
    rng = torch.Generator().manual_seed(0)
    real, generated = (torch.randn(1500, 8, generator=rng) for _ in range(2))
    got = manifold_scores(real, generated, k=5, block=400)
    assert got.density == pytest.approx(1.0, abs=0.1)
    # 1 - (N - 1) ... (N - k) / ((2 N - 1) ... (2 N - k)), the paper's lemma 2 for N = M
    expected = 1 - np.prod([(1500 - i) / (3000 - i) for i in range(1, 6)])
    assert got.coverage == pytest.approx(expected, abs=0.02)


def test_no_matrix_is_larger_than_a_block(monkeypatch):
    sizes = []
    plain = manifold._squared_distances

    def seen(a, b):
        sizes.append((len(a), len(b)))
        return plain(a, b)

    monkeypatch.setattr(manifold, "_squared_distances", seen)
    manifold_scores(torch.randn(50, 3), torch.randn(31, 3), block=16)
    assert max(max(size) for size in sizes) == 16
    assert sum(a * b for a, b in sizes) == 50 * 50 + 31 * 31 + 50 * 31


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_gives_nan(bad, place):
    sets = [torch.randn(9, 3), torch.randn(8, 3)]
    sets[place][4, 1] = bad
    assert all(np.isnan(astuple(manifold_scores(*sets, k=2))))


def test_half_precision_is_taken_as_it_is():
    real, generated = torch.randn(30, 5).bfloat16(), torch.randn(20, 5).bfloat16()
    got = manifold_scores(real, generated, k=3)
    want = brute_force(real.double(), generated.double(), 3)
    assert astuple(got) == pytest.approx(want)


@pytest.mark.parametrize(
    ("n", "m", "k", "words"),
    [(5, 9, 5, "1 ... 4"), (9, 2, 2, "1 ... 1"), (9, 9, 0, "k "), (0, 9, 1, "k ")],
)
def test_too_few_samples(n, m, k, words):
    with pytest.raises(ValueError, match=words):
        manifold_scores(torch.randn(n, 3), torch.randn(m, 3), k=k)


def test_shapes_that_do_not_fit():
    for other in (torch.randn(5, 4), torch.randn(5)):
        with pytest.raises(ValueError, match=r"features must be \[N, D\] and \[M, D\]"):
            manifold_scores(torch.randn(5, 3), other, k=1)
    with pytest.raises(ValueError, match="block must be positive"):
        manifold_scores(torch.randn(5, 3), torch.randn(5, 3), k=1, block=0)
