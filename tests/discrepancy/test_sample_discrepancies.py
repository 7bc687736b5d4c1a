"""Discrepancies between samples, against loops over classes, pairs and quantiles in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gencond_fast as gf
from gencond_fast.discrepancy import Generated, Real, RealSamples, build_discrepancy
from gencond_fast.discrepancy.sliced_wasserstein import SlicedWasserstein

CLASSES, DIM = 3, 4
NAMES = ("mmd", "sliced_wasserstein")
sizes = st.lists(st.integers(0, 6), min_size=CLASSES, max_size=CLASSES)


def draw(counts, seed: int, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    """Features around the number of their class, class after class, and labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    features = torch.randn(len(labels), DIM, generator=rng, dtype=torch.float64)
    return (features + labels[:, None]).to(dtype), labels


def shuffled(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return features[order], labels[order]


def real_side(features: Tensor, counts, seed: int = 7) -> Real:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    moments = gf.class_moments(features, labels, len(counts))
    rng = torch.Generator().manual_seed(seed)
    return Real(moments, samples=RealSamples(features, tuple(counts), rng))


def loss(name: str, made: tuple[Tensor, Tensor], real: Real, most: int | None = None) -> Tensor:
    discrepancy = build_discrepancy(name)
    discrepancy.prepare(real)
    moments = gf.class_moments(*made, CLASSES)
    return discrepancy.loss(Generated(*made, moments, 9, most))


def of_class(features: Tensor, labels: Tensor, c: int) -> np.ndarray:
    return features.detach().double().numpy()[labels.numpy() == c]


def mmd(made: np.ndarray, true: np.ndarray) -> float:
    """The three means of the published form, pair by pair."""
    both = np.concatenate((made, true))
    square = [[((x - y) ** 2).sum() for y in both] for x in both]
    h = np.sum(square) / max(len(both) * (len(both) - 1), 1) or 1.0

    def mean(left, right):
        values = [
            sum(np.exp(-((x - y) ** 2).sum() / (b * h)) for b in (0.25, 0.5, 1, 2, 4))
            for x in left
            for y in right
        ]
        return np.mean(values)

    return mean(made, made) - 2 * mean(made, true) + mean(true, true)


def transport(made: np.ndarray, true: np.ndarray) -> float:
    """W_2^2 on a line: as many copies of each as the other side has samples, in order."""
    left, right = np.sort(np.repeat(made, len(true))), np.sort(np.repeat(true, len(made)))
    return float(((left - right) ** 2).mean())


def oracle(name: str, made, real: Real, counts) -> float:
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    pairs = [
        (of_class(*made, c), of_class(real.samples.features, labels, c)) for c in range(CLASSES)
    ]
    pairs = [pair for pair in pairs if len(pair[0]) and len(pair[1])]
    if name == "mmd":
        return sum(mmd(*pair) for pair in pairs)
    rng = torch.Generator().manual_seed(7)
    lines = torch.randn(DIM, 128, generator=rng).double().numpy()
    lines /= np.linalg.norm(lines, axis=0)
    return sum(
        DIM * np.mean([transport(pair[0] @ line, pair[1] @ line) for line in lines.T])
        for pair in pairs
    )


@pytest.mark.parametrize("name", NAMES)
@given(sizes, sizes, st.integers(0, 2**30))
def test_against_loops(name, made, true, seed):
    features = shuffled(*draw(made, seed))
    real = real_side(draw(true, seed + 1)[0], true)
    want = oracle(name, features, real, true)
    got = loss(name, features, real)
    assert got.shape == ()
    assert float(got) == pytest.approx(want, rel=1e-6, abs=1e-9)
    again = real_side(draw(true, seed + 1)[0], true)
    assert float(loss(name, features, again, max(made, default=0))) == pytest.approx(float(got))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_lower_precision(name, dtype):
    true = [6, 9, 5]
    features = shuffled(*draw([4, 4, 4], 0))
    rounded = features[0].to(dtype), features[1]
    real = draw(true, 1)[0].to(dtype)
    want = oracle(name, rounded, real_side(real, true), true)
    got = loss(name, rounded, real_side(real, true))
    assert float(got) == pytest.approx(want, rel=1e-4 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    """Of mmd at the bandwidth of the batch, which has no gradient by definition."""
    true = [6, 9, 5]
    features, labels = shuffled(*draw([3, 4, 2], 0))
    features = features.requires_grad_()
    real = draw(true, 1)[0]
    value = loss(name, (features, labels), real_side(real, true))
    (gradient,) = torch.autograd.grad(value, features)
    assert gradient.isfinite().all()
    assert (gradient.abs().sum(1) > 0).all()
    if name == "sliced_wasserstein":
        call = lambda f: loss(name, (f, labels), real_side(real, true))  # noqa: E731
        assert torch.autograd.gradcheck(call, features)
        return
    torch.testing.assert_close(gradient, _mmd_gradient(features, labels, real, true))


def _mmd_gradient(features: Tensor, labels: Tensor, real: Tensor, true: list[int]) -> Tensor:
    """By autograd of the published form with its bandwidth held fixed."""
    features = features.detach().requires_grad_()
    total = features.new_zeros(())
    for c, part in enumerate(real.split(true)):
        both = torch.cat((features[labels == c], part))
        square = (both[:, None] - both[None]).square().sum(2)
        n, m = len(both) - len(part), len(part)
        h = (square.sum() / (len(both) * (len(both) - 1))).detach()
        kernel = sum((-square / (b * h)).exp() for b in (0.25, 0.5, 1.0, 2.0, 4.0))
        total = total + kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
        assert m
    (gradient,) = torch.autograd.grad(total, features)
    return gradient


@pytest.mark.parametrize("name", NAMES)
def test_the_same_samples_are_at_distance_zero_with_zero_gradient(name):
    counts = [3, 5, 1]
    real = draw(counts, 2)[0]
    features, labels = shuffled(*draw(counts, 2))
    features.requires_grad_()
    value = loss(name, (features, labels), real_side(real, counts))
    value.backward()
    assert abs(value.item()) < 1e-9
    assert features.grad.abs().max() < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_are_all_the_same(name):
    counts = [3, 3, 3]
    features = torch.ones(9, DIM, requires_grad=True)
    labels = torch.arange(3).repeat_interleave(3)
    value = loss(name, (features, labels), real_side(torch.ones(9, DIM), counts))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_may_be_shifted_together(name):
    true, made = [6, 9, 5], draw([3, 4, 2], 0)
    real, far = draw(true, 1)[0], 1e3
    near = loss(name, made, real_side(real, true))
    moved = loss(name, (made[0] + far, made[1]), real_side(real + far, true))
    assert float(moved) == pytest.approx(float(near), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_gives_nan_out(name):
    true = [6, 9, 5]
    features, labels = draw([3, 4, 2], 0)
    features[1, 2] = torch.nan
    assert loss(name, (features, labels), real_side(draw(true, 1)[0], true)).isnan()


def test_far_apart_it_is_the_distance_of_the_means():
    """With the factor D, over many directions; what is left is chance in the directions."""
    true = [50, 50, 50]
    features, labels = draw(true, 0)
    real = real_side(draw(true, 0)[0] + 30.0, true)
    discrepancy = SlicedWasserstein(20_000)
    discrepancy.prepare(real)
    moments = gf.class_moments(features, labels, CLASSES)
    got = discrepancy.loss(Generated(features, labels, moments, 50, 50))
    assert float(got) == pytest.approx(CLASSES * DIM * 30.0**2, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_without_samples_it_says_so(name):
    moments = gf.class_moments(*draw([1, 1, 1], 0), CLASSES)
    with pytest.raises(ValueError, match=f"{name}: prepare needs samples"):
        build_discrepancy(name).prepare(Real(moments))


def test_no_projections_is_an_error():
    with pytest.raises(ValueError, match="projections must be positive, got 0"):
        SlicedWasserstein(0)
