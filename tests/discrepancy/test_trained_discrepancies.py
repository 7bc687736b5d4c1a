"""Discrepancies of trained networks: the published formulas, layer by layer and pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import CLASSES, draw, generated_side, network, real_side, shuffled
from torch import Tensor

import gencond_fast as gf
from gencond_fast.discrepancy import Real, build_discrepancy

sizes = st.lists(st.integers(0, 4), min_size=CLASSES, max_size=CLASSES)


def loss(name: str, net, made: tuple[Tensor, Tensor], true) -> Tensor:
    discrepancy = build_discrepancy(name)
    discrepancy.prepare(real_side(net, *true))
    return discrepancy.loss(generated_side(net, *made))


def batch_norms(net, images: Tensor) -> float:
    """The recover loss of SRe2L as its hook computes it, ten times for the first layer."""
    total, x = 0.0, images
    for place, module in enumerate(net.classifier.body):
        if isinstance(module, torch.nn.BatchNorm2d):
            columns = x.detach().transpose(0, 1).flatten(1).numpy()
            far = np.linalg.norm(columns.mean(1) - module.running_mean.numpy())
            far += np.linalg.norm(columns.var(1) - module.running_var.numpy())
            total += far * (10 if place == 1 else 1)
        x = module(x)
    return total


def log_probabilities(net, images: Tensor, labels: Tensor, c: int) -> np.ndarray:
    logits = net.classifier(images[labels == c]).detach().numpy()
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def pairs(net, made, true) -> float:
    """The authors' mean over pairs of a class, over all of them."""
    total = 0.0
    for c in range(CLASSES):
        left, right = (log_probabilities(net, *side, c) for side in (made, true))
        if len(left) and len(right):
            total += np.mean([((x - y) ** 2).mean() for x in left for y in right])
    return float(total)


@settings(max_examples=10)
@given(counts=sizes.filter(any), seed=st.integers(0, 2**20))
def test_batchnorm_against_the_hook(counts, seed):
    net, batch = network("convnet3bn", seed), shuffled(*draw(counts, seed))
    got = loss("batchnorm", net, batch, draw([2, 1, 0], 1))
    assert float(got) == pytest.approx(CLASSES * batch_norms(net, batch[0]), rel=1e-6)


def test_batchnorm_gradient():
    net, (images, labels) = network("convnet3bn"), draw([2, 2, 1], 0)
    images.requires_grad_()
    (slope,) = torch.autograd.grad(
        loss("batchnorm", net, (images, labels), draw([1, 1, 1], 1)), images
    )
    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).double()
    ends = [CLASSES * batch_norms(net, images + e * step) for e in (1e-6, -1e-6)]
    assert float((slope * step).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


@settings(max_examples=10)
@given(made=sizes, true=sizes, seed=st.integers(0, 2**20))
def test_logit_against_pairs(made, true, seed):
    net, batch, real = network(seed=seed), shuffled(*draw(made, seed)), draw(true, seed + 1)
    got = loss("logit", net, batch, real)
    assert got.shape == ()
    assert float(got) == pytest.approx(pairs(net, batch, real), rel=1e-6, abs=1e-12)


def test_logit_gradient():
    net, real = network(), draw([2, 3, 1], 1)
    images, labels = shuffled(*draw([3, 0, 2], 0))
    images.requires_grad_()
    (slope,) = torch.autograd.grad(loss("logit", net, (images, labels), real), images)
    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).double()
    ends = [pairs(net, (images + e * step, labels), real) for e in (1e-6, -1e-6)]
    assert float((slope * step).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_logit_of_one_sample_each_is_their_distance():
    net, made, real = network(), draw([1, 1, 1], 0), draw([1, 1, 1], 1)
    both = [net.classifier(side[0]).log_softmax(1) for side in (made, real)]
    want = (both[0] - both[1]).square().mean(1).sum()
    assert float(loss("logit", net, made, real)) == pytest.approx(float(want), rel=1e-6)


@pytest.mark.parametrize("name", ["batchnorm", "logit"])
def test_nan_in_gives_nan_out(name):
    images, labels = draw([2, 2, 1], 0)
    images[1] = torch.nan
    assert loss(name, network("convnet3bn"), (images, labels), draw([2, 2, 2], 1)).isnan()


def test_what_is_missing_is_said():
    images, labels = draw([1, 1, 1], 0)
    moments = gf.class_moments(images.flatten(1), labels, CLASSES)
    with pytest.raises(ValueError, match="logit: prepare needs samples"):
        build_discrepancy("logit").prepare(Real(moments))
    for net in (None, network()):
        with pytest.raises(ValueError, match="batchnorm: prepare needs a network with batch"):
            build_discrepancy("batchnorm").prepare(Real(moments, network=net))
