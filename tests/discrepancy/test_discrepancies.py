"""Discrepancies against loops in float64, over all subsets, and under the eye of gradcheck."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gencond_fast as gf
from gencond_fast.discrepancy import DISCREPANCIES, Generated, Real, build_discrepancy
from gencond_fast.errors import InputError

CLASSES, DIM = 3, 4
LABELS = torch.tensor([2, 0, 0, 2, 2, 0, 2, 1, 1])
both = pytest.mark.parametrize("name", ["mean", "moments"])


def real_features(seed: int = 1) -> tuple[Tensor, Tensor]:
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor([6, 9, 5]))
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(20, DIM, generator=rng, dtype=torch.float64) * 2 + labels[:, None], labels


def of(c: int, features: Tensor, labels: Tensor) -> Tensor:
    return features[labels == c]


def loss(
    name: str, features: Tensor, labels: Tensor, stored: int, real: tuple[Tensor, Tensor]
) -> Tensor:
    discrepancy = build_discrepancy(name)
    discrepancy.prepare(Real(gf.class_moments(*real, CLASSES)))
    moments = gf.class_moments(features, labels, CLASSES)
    return discrepancy.loss(Generated(features, labels, moments, stored))


def brute_force(
    name: str, features: Tensor, labels: Tensor, stored: int, real: tuple[Tensor, Tensor]
) -> float:
    """The formulas read aloud, one class, one column at a time."""
    total = 0.0
    for c in range(CLASSES):
        made = features.double().numpy()[labels.numpy() == c]
        true = real[0].double().numpy()[real[1].numpy() == c]
        n = len(made)
        if n == 0 or len(true) == 0:
            continue
        for d in range(DIM):
            a, b = made[:, d], true[:, d]
            total += (a.mean() - b.mean()) ** 2
            if n > 1:
                total -= (1 - n / stored) * np.var(a, ddof=1) / n
            if name == "moments" and n > 1 and len(b) > 1:
                total += (np.std(a, ddof=1) - np.std(b, ddof=1)) ** 2
    return total


@both
@given(
    sizes=st.lists(st.integers(0, 6), min_size=CLASSES, max_size=CLASSES),
    real_sizes=st.lists(st.integers(0, 3), min_size=CLASSES, max_size=CLASSES),
    more=st.integers(0, 5),
    seed=st.integers(0, 2**30),
)
def test_against_loops(name, sizes, real_sizes, more, seed):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=rng)]
    features = torch.randn(len(labels), DIM, generator=rng, dtype=torch.float64)
    real_labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(real_sizes))
    real = torch.randn(len(real_labels), DIM, generator=rng, dtype=torch.float64), real_labels
    stored = max(sizes) + more or 1
    got = loss(name, features, labels, stored, real)
    assert got.shape == ()
    assert float(got) == pytest.approx(
        brute_force(name, features, labels, stored, real), rel=1e-10, abs=1e-12
    )


@both
def test_in_float32(name):
    real = real_features()
    features = torch.randn(9, DIM)
    want = brute_force(name, features, LABELS, 6, real)
    got = loss(name, features, LABELS, 6, (real[0].float(), real[1]))
    assert float(got) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(("n", "total"), [(2, 5), (3, 5), (4, 5), (5, 5), (2, 2), (3, 7)])
def test_mean_of_all_draws_is_the_loss_of_the_whole(n, total):
    """Without the correction the draws' average would be larger by the variance of their mean."""
    real = real_features()
    stored = torch.randn(CLASSES, total, DIM, dtype=torch.float64)
    labels = torch.arange(CLASSES).repeat_interleave(n)
    draws = [
        float(loss("mean", stored[:, list(subset)].flatten(0, 1), labels, total, real))
        for subset in itertools.combinations(range(total), n)
    ]
    whole = loss(
        "mean", stored.flatten(0, 1), torch.arange(CLASSES).repeat_interleave(total), total, real
    )
    centres = torch.stack([of(c, *real).mean(0) for c in range(CLASSES)])
    assert float(whole) == pytest.approx(float((stored.mean(1) - centres).square().sum()))
    assert sum(draws) / math.comb(total, n) == pytest.approx(float(whole), rel=1e-10)
    if n < total:
        assert max(draws) > min(draws)


def test_the_expected_gradient_does_not_pull_a_class_together():
    """Averaged over all draws, every sample of a class gets the gradient of the class mean."""
    real = real_features()
    stored = torch.randn(CLASSES, 4, DIM, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(CLASSES).repeat_interleave(2)
    for subset in itertools.combinations(range(4), 2):
        loss("mean", stored[:, list(subset)].flatten(0, 1), labels, 4, real).backward()
    gradient = stored.grad / 6
    assert torch.allclose(gradient, gradient[:, :1].expand_as(gradient), atol=1e-12)


def test_moments_is_the_transport_of_diagonal_gaussians():
    """W2^2 in one dimension is the squared L2 distance of the quantile functions."""
    features = torch.randn(9, DIM, dtype=torch.float64)
    real = real_features()
    levels = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    normal = torch.special.ndtri(levels)
    total = 0.0
    for c in range(CLASSES):
        made, true = features[c == LABELS], real[0][real[1] == c]
        for d in range(DIM):
            one = made[:, d].mean() + made[:, d].std() * normal
            other = true[:, d].mean() + true[:, d].std() * normal
            total += float((one - other).square().mean())
    got = loss("moments", features, LABELS, 4, real)
    got = got + sum(  # the classes here are stored in part only: take their correction out
        (1 - n / 4) * float(features[c == LABELS].var(0).sum()) / n
        for c, n in enumerate(torch.bincount(LABELS).tolist())
    )
    assert float(got) == pytest.approx(total, rel=2e-3)


@both
def test_equal_moments_give_zero(name):
    real = real_features()
    assert float(loss(name, *real, 1000, real)) <= 0.0  # the correction alone
    one_class = real[0][:6], real[1][:6]
    assert float(loss(name, *one_class, 6, one_class)) == pytest.approx(0.0, abs=1e-12)


@both
@pytest.mark.parametrize("stored", [4, 9])
def test_gradients(name, stored):
    real = real_features()
    features = torch.randn(9, DIM, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: loss(name, f, LABELS, stored, real), features)
    loss(name, features, LABELS, stored, real).backward()
    assert (features.grad.abs().sum(1) > 0).all()


@both
def test_an_empty_class_is_left_out(name):
    real = real_features()
    features = torch.randn(9, DIM, dtype=torch.float64)
    some = LABELS != 1
    got = loss(name, features[some], LABELS[some], 4, real)
    alone = sum(loss(name, features[c == LABELS], LABELS[c == LABELS], 4, real) for c in (0, 2))
    assert float(got) == pytest.approx(float(alone))
    missing = real[0][real[1] != 1], real[1][real[1] != 1]
    assert float(loss(name, features, LABELS, 4, missing)) == pytest.approx(float(got))


@both
def test_nothing_to_compare_is_zero_with_zero_gradient(name):
    features = torch.randn(3, DIM, requires_grad=True)
    real = torch.randn(4, DIM), torch.full((4,), 1)
    got = loss(name, features, torch.tensor([0, 0, 2]), 4, real)
    assert got.item() == 0.0
    got.backward()
    assert torch.equal(features.grad, torch.zeros(3, DIM))


def test_one_sample_a_class_is_compared_by_its_mean_alone():
    features = torch.randn(CLASSES, DIM, dtype=torch.float64, requires_grad=True)
    labels, real = torch.arange(CLASSES), real_features()
    mean, moments = (loss(name, features, labels, 5, real) for name in ("mean", "moments"))
    centres = torch.stack([of(c, *real).mean(0) for c in range(CLASSES)])
    assert mean.item() == pytest.approx((features - centres).square().sum().item())
    assert moments.item() == pytest.approx(mean.item())
    moments.backward()
    assert torch.allclose(features.grad, 2 * (features.detach() - centres))


@both
def test_equal_samples_have_finite_gradients(name):
    features = torch.randn(CLASSES, DIM).repeat_interleave(4, 0).requires_grad_()
    real = real_features()
    labels = torch.arange(CLASSES).repeat_interleave(4)
    got = loss(name, features, labels, 8, (real[0].float(), real[1]))
    got.backward()
    assert got.isfinite()
    assert features.grad.isfinite().all()
    assert features.grad.abs().sum() > 0


@both
def test_a_real_class_of_equal_images(name):
    real = torch.ones(6, DIM), torch.arange(CLASSES).repeat_interleave(2)
    features = torch.randn(9, DIM, requires_grad=True)
    loss(name, features, LABELS, 4, real).backward()
    assert features.grad.isfinite().all()


@both
def test_prepare_replaces_what_was_prepared(name):
    features, real, other = torch.randn(9, DIM).double(), real_features(1), real_features(2)
    discrepancy = build_discrepancy(name)
    discrepancy.prepare(Real(gf.class_moments(*other, CLASSES)))
    discrepancy.prepare(Real(gf.class_moments(*real, CLASSES)))
    moments = gf.class_moments(features, LABELS, CLASSES)
    got = discrepancy.loss(Generated(features, LABELS, moments, 4))
    assert float(got) == float(loss(name, features, LABELS, 4, real))


def test_names():
    assert set(DISCREPANCIES) >= {"mean", "moments", "cf"}
    with pytest.raises(InputError, match="unknown discrepancy 'mmmd' in losses.discrepancies"):
        build_discrepancy("mmmd")
