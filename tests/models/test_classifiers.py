"""Classifiers: shapes, seeds, and the two architectures against their papers' definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gencond_fast.errors import InputError
from gencond_fast.models.classifier import batch_norms
from gencond_fast.models.registry import MODEL_NAMES, build_classifier


def build(name="convnet3", channels=3, classes=10, side=32, seed=0, width=None):
    if width is None and name.startswith("convnet"):
        width = 16
    return build_classifier(name, channels, classes, side, seed=seed, width=width)


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize(("channels", "side"), [(1, 9), (1, 28), (3, 30), (3, 32), (3, 64)])
def test_shapes(name, channels, side):
    network = build(name, channels, 7, side).eval()
    images = torch.randn(2, channels, side, side)
    with torch.no_grad():
        features, logits = network.features(images), network(images)
    assert features.shape == (2, network.feature_dim)
    assert logits.shape == (2, 7)
    assert torch.allclose(network.classifier(features), logits, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "side", "map_side"),
    [
        ("convnet3", 8, 4),  # further halving would leave two pixels
        ("convnet3", 28, 3),
        ("convnet3", 32, 4),
        ("convnet4", 64, 4),
        ("convnet5", 128, 4),
        ("convnet5", 32, 4),
    ],
)
def test_convnet_feature_dimensions(name, side, map_side):
    assert build(name, side=side).feature_dim == 16 * map_side**2


def test_the_published_convnet_has_320_thousand_weights():
    network = build_classifier("convnet3", 3, 10, 32, seed=0)
    assert network.feature_dim == 2048
    assert sum(p.numel() for p in network.parameters()) == 320_010


@pytest.mark.parametrize("name", ["convnet3", "convnet4", "convnet3bn"])
def test_a_name_may_state_the_width(name):
    stated = build_classifier(f"{name}@24", 3, 10, 32, seed=3).state_dict()
    wanted = build_classifier(name, 3, 10, 32, seed=3, width=24).state_dict()
    assert all(torch.equal(stated[key], value) for key, value in wanted.items())
    with pytest.raises(InputError, match=f"'{name}@24' has a fixed width"):
        build_classifier(f"{name}@24", 3, 10, 32, seed=3, width=32)


@pytest.mark.parametrize("name", ["convnet3@", "convnet3@0", "convnet3@-8", "resnet18@64", "@64"])
def test_a_width_that_cannot_be_is_refused(name):
    with pytest.raises(InputError, match=f"unknown model '{name}'"):
        build_classifier(name, 3, 10, 32, seed=0)


def test_the_usual_small_image_resnet18_has_11_million_weights():
    network = build_classifier("resnet18", 3, 10, 32, seed=0)
    assert network.feature_dim == 512
    assert sum(p.numel() for p in network.parameters()) == 11_173_962


def test_convnet_by_its_definition():
    network = build(side=12, width=4).double()
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    weights = list(network.parameters())
    want, side = x, 12
    for block in range(3):
        kernel, bias, gain, offset = weights[4 * block : 4 * block + 4]
        want = F.conv2d(want, kernel, bias, padding=1)
        mean = want.mean((2, 3), keepdim=True)
        deviation = (want.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        want = (want - mean) / deviation * gain.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)
        want = want.clamp(min=0)
        if side // 2 >= 3:
            side //= 2
            want = want[:, :, : 2 * side, : 2 * side].reshape(3, 4, side, 2, side, 2).mean((3, 5))
    want = want.flatten(1) @ weights[12].T + weights[13]
    assert torch.allclose(network(x), want, atol=1e-10)


def test_convnet_with_batch_norm_by_its_definition():
    network, plain = build("convnet3bn", side=12, width=4).double(), build(side=12, width=4)
    assert [p.shape for p in network.parameters()] == [p.shape for p in plain.parameters()]
    inner = network.body[0](torch.randn(5, 3, 12, 12, dtype=torch.float64))
    deviation = (inner.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    want = (inner - inner.mean((0, 2, 3), keepdim=True)) / deviation
    assert torch.allclose(network.body[1](inner), want, atol=1e-10)
    assert len(batch_norms(network)) == 3
    assert batch_norms(plain) == []


def test_instance_norm_ignores_brightness_and_contrast():
    network = build(width=8)
    images = torch.randn(2, 3, 32, 32)
    inner = network.body[0](images)  # of the first convolution on
    tail = network.body[1:]
    assert torch.allclose(tail(inner), tail(3 * inner + 2), atol=1e-3)


@pytest.mark.parametrize("name", ["convnet3", "resnet18"])
def test_weights_come_from_the_seed_alone(name):
    torch.manual_seed(3)
    one = build(name, side=8, seed=1).state_dict()
    state = torch.get_rng_state()
    two = build(name, side=8, seed=1).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    other = build(name, side=8, seed=2).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    drawn = [key for key in one if one[key].ndim > 1]
    assert not any(torch.equal(one[key], other[key]) for key in drawn)


@pytest.mark.parametrize("name", ["convnet3", "resnet18"])
def test_every_weight_learns(name):
    network = build(name, side=8, width=None)
    network(torch.randn(8, 3, 8, 8)).square().mean().backward()
    grads = {name: p.grad for name, p in network.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in grads.values())
    # a norm takes the bias before it away again, so biases need not learn
    assert all(float(g.abs().sum()) > 0 for g in grads.values() if g.ndim > 1)


def test_width():
    assert build(width=5).body[0].out_channels == 5
    with pytest.raises(InputError, match="model 'resnet18' has a fixed width: leave the width"):
        build("resnet18", width=64)


def test_unknown_name():
    with pytest.raises(InputError, match="unknown model 'vgg': choose one of convnet3, "):
        build("vgg")
