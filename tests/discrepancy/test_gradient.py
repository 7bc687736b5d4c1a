"""Distances between parameter gradients, against a loop over classes, layers and rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import CHOSEN, CLASSES, draw, generated_side, network, real_side, shuffled
from torch import Tensor

import gencond_fast as gf
from gencond_fast.discrepancy import Generated, Real, build_discrepancy

NAMES = ("gradient", "gradient_squared", "gradient_l1")
sizes = st.lists(st.integers(0, 3), min_size=CLASSES, max_size=CLASSES)


def loss(name: str, net, made: tuple[Tensor, Tensor], true, most: int | None = None) -> Tensor:
    discrepancy = build_discrepancy(name)
    discrepancy.prepare(real_side(net, *true))
    return discrepancy.loss(generated_side(net, *made, most))


def gradients(net, images: Tensor, output: int) -> list[np.ndarray]:
    """Of the images of one class, by autograd on weights that want a gradient."""
    weights = [w for w in net.classifier.parameters() if w.dim() > 1]
    for weight in weights:
        weight.requires_grad_(True)
    value = F.cross_entropy(net.classifier(images), torch.full((len(images),), output))
    found = torch.autograd.grad(value, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return [each.numpy() for each in found]


def distance(name: str, a: np.ndarray, b: np.ndarray) -> float:
    """Of one layer, row by row."""
    if name == "gradient_squared":
        return float(((a - b) ** 2).sum())
    if name == "gradient_l1":
        return float(np.abs(a - b).sum())
    rows = zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True)
    return sum(1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6) for x, y in rows)


def oracle(name: str, net, made, true) -> float:
    total = 0.0
    for c, output in enumerate(CHOSEN.tolist()):
        sides = [images.detach()[labels == c] for images, labels in (made, true)]
        if all(len(side) for side in sides):
            layers = zip(*(gradients(net, side, output) for side in sides), strict=True)
            total += sum(distance(name, a, b) for a, b in layers)
    return total


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6)
@given(made=sizes, true=sizes, seed=st.integers(0, 2**20))
def test_against_loops(name, made, true, seed):
    net = network(seed=seed)
    batch, real = shuffled(*draw(made, seed)), draw(true, seed + 1)
    want = oracle(name, net, batch, real)
    for most in (None, max(made)):
        got = loss(name, net, batch, real, most)
        assert got.shape == ()
        assert float(got) == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("model", ["convnet3bn", "convnet4"])
def test_of_other_networks(model):
    net = network(model)
    batch, real = shuffled(*draw([2, 3, 1], 0)), draw([3, 2, 2], 1)
    before = {name: value.clone() for name, value in net.classifier.state_dict().items()}
    assert float(loss("gradient", net, batch, real)) == pytest.approx(
        oracle("gradient", net, batch, real), rel=1e-9
    )
    after = net.classifier.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_gradient_towards_images(name):
    """Along a direction, by central differences of the loop."""
    net, labels = network(seed=3), torch.tensor([2, 0, 2, 1])
    images, real = draw([2, 1, 1], 0)[0].requires_grad_(), draw([3, 2, 2], 1)
    value = loss(name, net, (images, labels), real)
    (slope,) = torch.autograd.grad(value, images)
    assert (slope.abs().sum((1, 2, 3)) > 0).all()
    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).double()
    ends = [oracle(name, net, (images + e * step, labels), real) for e in (1e-6, -1e-6)]
    assert float((slope * step).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_images_are_at_distance_zero(name):
    net, real = network(), draw([2, 3, 1], 0)
    got = loss(name, net, shuffled(*real), real)
    # of the cosines as many ones are taken off as there are rows, short of the constant in them
    assert abs(got.item()) < (0.05 if name == "gradient" else 1e-12)


def test_a_class_of_none_gets_no_gradient():
    net, real = network(), draw([2, 0, 1], 1)
    images, labels = draw([2, 2, 0], 0)
    images.requires_grad_()
    loss("gradient", net, (images, labels), real).backward()
    assert images.grad[labels == 1].eq(0).all()
    assert images.grad[labels == 0].ne(0).any()


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_gives_nan_out(name):
    images, labels = draw([2, 2, 1], 0)
    images[1, 0, 0, 0] = torch.nan
    assert loss(name, network(), (images, labels), draw([2, 2, 2], 1)).isnan()


def test_without_images_it_says_so():
    net, (images, labels) = network(), draw([1, 1, 1], 0)
    moments = gf.class_moments(images.flatten(1), labels, CLASSES)
    discrepancy = build_discrepancy("gradient")
    with pytest.raises(ValueError, match="prepare needs real images"):
        discrepancy.prepare(Real(moments, network=net))
    discrepancy.prepare(real_side(net, images, labels))
    with pytest.raises(ValueError, match="loss needs generated images"):
        discrepancy.loss(Generated(images.flatten(1), labels, moments, 1))
