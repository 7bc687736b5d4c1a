"""Weights of networks in whole steps, and their streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gencond_fast.store import weights
from gencond_fast.store.entropy import LARGEST
from gencond_fast.store.weights import CodedConv, CodedWeight, coded_weights


def test_a_weight_is_a_whole_number_of_steps_and_learns() -> None:
    torch.manual_seed(0)
    weight = CodedWeight((5, 4), 0.3)
    steps = weight() / weight.step
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert (weight() - weight.value).abs().max() <= weight.step / 2 + 1e-7
    weight().sum().backward()
    assert torch.equal(weight.value.grad, torch.ones(5, 4))


def test_what_is_taken_comes_back() -> None:
    one, other = CodedWeight((7, 3), 0.2), CodedWeight((7, 3), 0.2, zero=True)
    other.take(one.whole().flatten())
    assert torch.equal(other.whole(), one.whole())
    assert torch.allclose(other(), one(), atol=1e-7)


def test_a_convolution_is_the_usual_one() -> None:
    layer, x = CodedConv(3, 5, 3), torch.randn(2, 3, 6, 6)
    want = F.conv2d(x.double(), layer.weight().double(), layer.bias().double(), padding=1)
    assert torch.allclose(layer(x).double(), want, atol=1e-5)


def test_streams_of_tensors_of_any_shapes() -> None:
    rng = np.random.default_rng(0)
    tensors = [
        np.rint(rng.laplace(0, scale, shape)).astype(np.int64).clip(-LARGEST, LARGEST)
        for scale, shape in ((3, (4, 5)), (0.1, (300,)), (90, (2, 3, 3, 3)), (5, (1,)))
    ]
    stream, odds = weights.encode(tensors)
    assert odds.shape == (2, 4)
    found = weights.decode(stream + b"\0" * 8, odds, [each.size for each in tensors])
    for each, got in zip(tensors, found, strict=True):
        assert np.array_equal(each.ravel(), got)


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0])
def test_bits_are_about_those_of_the_stream(scale: float) -> None:
    torch.manual_seed(1)
    layer = CodedConv(16, 32, 3)
    with torch.no_grad():
        layer.weight.value.mul_(scale)
    stream, _ = weights.encode([each.whole().numpy() for each in coded_weights(layer)])
    promised = float(sum(each.bits().detach() for each in coded_weights(layer))) / 8
    assert len(stream) == pytest.approx(promised, rel=0.12, abs=20)


def test_bits_pull_weights_towards_zero() -> None:
    weight = CodedWeight((50,), 0.3)
    weight.bits().backward()
    assert torch.equal(weight.value.grad.sign(), weight.value.detach().sign())
