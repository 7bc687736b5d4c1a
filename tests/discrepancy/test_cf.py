"""The characteristic function discrepancy against complex numbers, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gencond_fast as gf
from gencond_fast.discrepancy import Generated, Real, build_discrepancy
from gencond_fast.discrepancy.cf import CharacteristicFunction
from gencond_fast.functional.characteristic import Characteristic, waves

CLASSES, DIM, NUMBER = 3, 4, 5
LABELS = torch.tensor([2, 0, 0, 2, 2, 0, 2, 1, 1])


def draw(sizes, seed: int, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.int64))
    labels = labels[torch.randperm(len(labels), generator=rng)]
    features = torch.randn(len(labels), DIM, generator=rng, dtype=torch.float64)
    return (features + labels[:, None]).to(dtype), labels


def frequencies(dtype=torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    return torch.randn(NUMBER, DIM, generator=rng, dtype=torch.float64).to(dtype)


def real_side(features: Tensor, labels: Tensor) -> Real:
    chosen = frequencies(features.dtype)
    mean = gf.class_moments(waves(features, chosen), labels, CLASSES).mean
    function = Characteristic(chosen, *mean.chunk(2, 1))
    return Real(gf.class_moments(features, labels, CLASSES), function)


def loss(features: Tensor, labels: Tensor, real, amplitude: float = 0.5) -> Tensor:
    discrepancy = CharacteristicFunction(amplitude)
    discrepancy.prepare(real_side(*real))
    moments = gf.class_moments(features, labels, CLASSES)
    return discrepancy.loss(Generated(features, labels, moments, 9))


def brute_force(features: Tensor, labels: Tensor, real, amplitude: float = 0.5) -> float:
    """Amplitudes and phases of complex numbers, one class, one frequency at a time."""
    total = 0.0
    for c in range(CLASSES):
        made = features.double().numpy()[labels.numpy() == c]
        true = real[0].double().numpy()[real[1].numpy() == c]
        if len(made) == 0 or len(true) == 0:
            continue
        for t in frequencies().numpy():
            p, q = (np.mean([np.exp(1j * (t @ f)) for f in each]) for each in (true, made))
            apart = (abs(p) - abs(q)) ** 2
            turned = 2 * abs(p) * abs(q) * (1 - np.cos(np.angle(p) - np.angle(q)))
            square = amplitude * apart + (1 - amplitude) * turned
            total += (np.sqrt(square + 1e-6) - 1e-3) / NUMBER
    return total


sizes = st.lists(st.integers(0, 6), min_size=CLASSES, max_size=CLASSES)


@given(sizes, sizes, st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), st.integers(0, 2**30))
def test_against_complex_numbers(made, true, amplitude, seed):
    features, labels = draw(made, seed)
    real = draw(true, seed + 1)
    got = loss(features, labels, real, amplitude)
    assert got.shape == ()
    want = brute_force(features, labels, real, amplitude)
    assert float(got) == pytest.approx(want, rel=1e-9, abs=1e-11)


def test_in_float32():
    features, real = torch.randn(9, DIM), draw([6, 9, 5], 1, torch.float32)
    want = brute_force(features, LABELS, real)
    assert float(loss(features, LABELS, real)) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("amplitude", [0.0, 0.3, 0.5, 1.0])
def test_gradients(amplitude):
    real = draw([6, 9, 5], 1)
    features = torch.randn(9, DIM, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: loss(f, LABELS, real, amplitude), features)
    loss(features, LABELS, real, amplitude).backward()
    assert (features.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("amplitude", [0.0, 0.5, 1.0])
def test_the_same_distribution_is_at_distance_zero_with_zero_gradient(amplitude):
    features, labels = draw([2, 3, 1], 3)
    real = features.clone(), labels
    features.requires_grad_()
    got = loss(features, labels, real, amplitude)
    got.backward()
    assert abs(got.item()) < 1e-12
    assert features.grad.abs().max() < 1e-9


def test_samples_that_cancel_have_finite_gradients():
    """exp(i t.f) of opposite phases add up to 0, where an amplitude has no derivative."""
    chosen = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    features = torch.zeros(2, DIM)
    features[1, 0] = torch.pi
    features.requires_grad_()
    zero = torch.zeros(1, 1)
    for amplitude in (0.2, 0.5, 0.8):
        discrepancy = CharacteristicFunction(amplitude)
        labels = torch.zeros(2, dtype=torch.int64)
        moments = gf.class_moments(features, labels, 1)
        discrepancy.prepare(Real(moments, Characteristic(chosen, zero, zero)))
        discrepancy.loss(Generated(features, labels, moments, 2)).backward()
        assert features.grad.isfinite().all()


def test_both_sides_may_be_shifted_together():
    real, features = draw([6, 9, 5], 1), torch.randn(9, DIM, dtype=torch.float64)
    shift = torch.tensor([3.0, -1.0, 0.5, 7.0], dtype=torch.float64)
    moved = loss(features + shift, LABELS, (real[0] + shift, real[1]), 0.3)
    assert float(moved) == pytest.approx(float(loss(features, LABELS, real, 0.3)), rel=1e-9)


def test_half_of_each_is_the_distance_in_the_plane():
    """What NCFM calls amplitude and phase loss add up to |p - q|^2."""
    real, features = draw([6, 9, 5], 1), torch.randn(9, DIM, dtype=torch.float64)
    p = real_side(*real).characteristic
    mean = gf.class_moments(waves(features, p.frequencies), LABELS, CLASSES).mean
    square = (mean - torch.cat((p.real, p.imaginary), 1)).square().view(CLASSES, 2, -1).sum(1)
    want = ((square / 2 + 1e-6).sqrt() - 1e-3).mean(1).sum()
    assert float(loss(features, LABELS, real)) == pytest.approx(float(want))


def test_an_empty_class_is_left_out():
    real, features = draw([6, 9, 5], 1), torch.randn(9, DIM, dtype=torch.float64)
    some = LABELS != 1
    got = loss(features[some], LABELS[some], real)
    alone = sum(loss(features[c == LABELS], LABELS[c == LABELS], real) for c in (0, 2))
    assert float(got) == pytest.approx(float(alone))
    missing = real[0][real[1] != 1], real[1][real[1] != 1]
    assert float(loss(features, LABELS, missing)) == pytest.approx(float(got))


def test_nothing_to_compare_is_zero_with_zero_gradient():
    features = torch.randn(3, DIM, requires_grad=True)
    got = loss(features, torch.tensor([0, 0, 2]), (torch.randn(4, DIM), torch.full((4,), 1)))
    got.backward()
    assert got.item() == 0.0
    assert torch.equal(features.grad, torch.zeros(3, DIM))


def test_nan_is_not_hidden():
    real, features = draw([6, 9, 5], 1), torch.randn(9, DIM, dtype=torch.float64)
    features[3, 1] = torch.nan
    assert loss(features, LABELS, real).isnan()


def test_autocast_does_not_touch_the_angles():
    features, chosen = torch.randn(8, DIM) * 50, frequencies(torch.float32)
    want = waves(features, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(waves(features, chosen), want)


def test_of_a_gaussian():
    """E exp(i t.f) = exp(i t.mu - |t|^2 / 2) for unit variance."""
    mu = torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64)
    features = torch.randn(200_000, DIM, dtype=torch.float64) + mu
    chosen = frequencies()
    real, imaginary = waves(features, chosen).mean(0).chunk(2)
    want = torch.exp(1j * (chosen @ mu) - chosen.square().sum(1) / 2)
    torch.testing.assert_close(torch.complex(real, imaginary), want, rtol=0, atol=0.01)


def test_it_insists_on_what_it_needs():
    discrepancy = build_discrepancy("cf")
    assert discrepancy.needs_characteristic
    assert not build_discrepancy("moments").needs_characteristic
    with pytest.raises(ValueError, match="needs the characteristic function"):
        discrepancy.prepare(Real(gf.class_moments(*draw([2, 2, 2], 0), CLASSES)))
    with pytest.raises(ValueError, match="amplitude must lie in 0 ... 1, got 1.5"):
        CharacteristicFunction(1.5)
