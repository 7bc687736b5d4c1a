"""The networks of comparisons between architectures, against counts and definitions of our own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gencond_fast.errors import InputError
from gencond_fast.models.registry import MODEL_NAMES, build_classifier, choose_models

COUNTED = ("resnet18in", "vgg11", "vgg11bn", "alexnet", "vit")
NEW = (*COUNTED, "resnet50", "mobilenetv2", "vit-s")


def build(name, channels=3, classes=10, side=16, seed=0):
    return build_classifier(name, channels, classes, side, seed=seed)


def conv(inputs: int, outputs: int, kernel: int, norm: bool = True) -> int:
    return outputs * (inputs * kernel**2 + 1) + 2 * outputs * norm


def count(name: str, channels: int, classes: int, side: int) -> int:
    """Weights and biases, by the tables of the papers."""
    if name.startswith("vgg11"):
        widths = [channels, 64, 128, 256, 256, 512, 512, 512, 512]
        body = sum(conv(i, o, 3) for i, o in zip(widths, widths[1:], strict=False))
        return body + 513 * classes
    if name == "alexnet":
        layers = [(channels, 128, 5), (128, 192, 5), (192, 256, 3), (256, 192, 3), (192, 192, 3)]
        body = sum(conv(*layer, norm=False) for layer in layers)
        return body + (192 * min(side // 8, 4) ** 2 + 1) * classes
    if name == "vit":
        patch = min(max(round(side / 8), 2), 16)
        tokens = math.ceil(side / patch) ** 2
        attention, hidden = 4 * 192 * 193, 768 * 193 + 192 * 769
        embedding = 192 * (channels * patch**2 + 1) + tokens * 192
        return embedding + 6 * (attention + hidden + 4 * 192) + 2 * 192 + 193 * classes
    stages = [(64, 64), (64, 128), (128, 256), (256, 512)]
    body = 64 * channels * (49 if side > 64 else 9) + 2 * 64
    for inputs, outputs in stages:
        body += 9 * outputs * (inputs + 3 * outputs) + 8 * outputs
        body += (inputs != outputs) * outputs * (inputs + 2)
    return body + 513 * classes


@pytest.mark.parametrize("name", COUNTED)
@settings(max_examples=12)
@given(st.integers(16, 224), st.sampled_from([1, 3]), st.integers(2, 12), st.integers(1, 3))
def test_shapes_and_weights_of_any_size(name, side, channels, classes, batch):
    with torch.device("meta"):  # shapes alone
        network = build(name, channels, classes, side)
        images = torch.empty(batch, channels, side, side)
        features = network.features(images)
        assert features.shape == (batch, network.feature_dim)
        assert network(images).shape == (batch, classes)
    assert sum(p.numel() for p in network.parameters()) == count(name, channels, classes, side)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", 11_689_512),  # 11.69 million
        ("resnet50", 25_557_032),  # 25.56 million
        ("mobilenetv2", 3_504_872),  # 3.50 million
        ("vit-s", 22_050_664 - 2 * 384),  # 22.05 million with a class token and its position
    ],
)
def test_at_imagenets_size_the_weights_are_as_many_as_published(name, weights):
    with torch.device("meta"):
        network = build(name, classes=1000, side=224)
    assert sum(p.numel() for p in network.parameters()) == weights


@pytest.mark.parametrize("name", ["resnet18", "resnet18in", "resnet50", "mobilenetv2"])
@pytest.mark.parametrize(("side", "last"), [(32, 4), (64, 8), (65, 3), (128, 4), (224, 7)])
def test_large_images_get_the_strides_of_imagenet(name, side, last):
    with torch.device("meta"):
        network = build(name, side=side)
        maps = network.body[:-1](torch.empty(2, 3, side, side))
    assert maps.shape == (2, network.feature_dim, last, last)


def test_the_stem_of_large_images_by_its_definition():
    network = build("resnet18", side=66).double()
    x = torch.randn(2, 3, 66, 66, dtype=torch.float64)
    want = F.conv2d(x, network.body[0].weight, stride=2, padding=3)
    mean, var = (m(want, (0, 2, 3), keepdim=True) for m in (torch.mean, _variance))
    want = ((want - mean) / (var + 1e-5).sqrt()).clamp(min=0)  # a new norm has gain 1, offset 0
    want = F.pad(want, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))
    assert torch.allclose(network.body[:4](x), want, atol=1e-9)


def test_a_bottleneck_by_its_definition():
    block = build("resnet50").body[6].double().eval()  # the first one of the second stage
    x = torch.randn(2, 256, 6, 6, dtype=torch.float64)
    scale = (1 + 1e-5) ** -0.5  # of a new norm in inference
    inner = (F.conv2d(x, block.conv1.weight) * scale).clamp(min=0)
    inner = (F.conv2d(inner, block.conv2.weight, stride=2, padding=1) * scale).clamp(min=0)
    short = F.conv2d(x[:, :, ::2, ::2], block.shortcut[0].weight) * scale
    want = (F.conv2d(inner, block.conv3.weight) * scale + short).clamp(min=0)
    assert want.shape == (2, 512, 3, 3)
    assert torch.allclose(block(x), want, atol=1e-9)


def test_an_inverted_residual_by_its_definition():
    block = build("mobilenetv2").body[5].double().eval()  # the second one of the second stage
    x = 9 * torch.randn(2, 24, 5, 5, dtype=torch.float64)
    wide, deep, narrow = (w for w in block.parameters() if w.ndim == 4)
    scale = (1 + 1e-5) ** -0.5  # of a new norm in inference
    inner = (F.conv2d(x, wide) * scale).clamp(0, 6)
    windows = F.pad(inner, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
    inner = ((windows * deep[:, 0, None, None]).sum((4, 5)) * scale).clamp(0, 6)
    assert torch.allclose(block(x), x + F.conv2d(inner, narrow) * scale, atol=1e-9)


@pytest.mark.parametrize("name", NEW)
def test_the_smallest_images(name):
    side = 9 if name == "resnet18in" else 4
    network = build(name, side=side)
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        features = network.features(images)
    assert features.shape == (3, network.feature_dim)
    assert float((features[0] - features[1]).abs().max()) > 1e-3 * float(features.max())


def test_images_too_small_for_instance_norm():
    with pytest.raises(InputError, match="needs images of 9 pixels or more, and image_size is 8"):
        build("resnet18in", side=8)


@pytest.mark.parametrize("name", NEW)
def test_every_parameter_learns(name):
    network = build(name, side=20)
    logits = network(torch.randn(8, 3, 20, 20))
    F.cross_entropy(logits, torch.arange(8)).backward()
    grads = {key: p.grad for key, p in network.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in grads.values())
    assert all(float(g.abs().sum()) > 0 for g in grads.values())


@pytest.mark.parametrize("name", NEW)
def test_the_seed_decides_on_the_weights(name):
    torch.manual_seed(3)
    one = build(name, seed=1).state_dict()
    state = torch.get_rng_state()
    two, other = build(name, seed=1).state_dict(), build(name, seed=2).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    drawn = [key for key in one if one[key].ndim > 1]
    assert not any(torch.equal(one[key], other[key]) for key in drawn)
    # and no two layers have the same ones
    sums = [float(one[key].double().sum()) for key in drawn]
    assert len(set(sums)) == len(sums)


@pytest.mark.parametrize("name", NEW)
def test_half_precision(name):
    network = build(name, classes=4, side=18).eval()
    images = torch.randn(4, 3, 18, 18)
    with torch.no_grad():
        want = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            got = network(images)
    assert got.dtype == torch.bfloat16
    assert float((got.float() - want).abs().max()) < 0.05 * float(want.abs().max()) + 0.02


def test_vgg11_by_its_definition():
    network = build("vgg11", side=32).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    weights = iter(network.parameters())
    want = x
    for pooled in (True, True, False, True, False, True, False, True):
        kernel, bias, gain, offset = (next(weights) for _ in range(4))
        want = F.conv2d(want, kernel, bias, padding=1)
        mean, var = (m(want, (2, 3), keepdim=True) for m in (torch.mean, _variance))
        want = (want - mean) / (var + 1e-5).sqrt() * gain.view(-1, 1, 1) + offset.view(-1, 1, 1)
        want = want.clamp(min=0)
        if pooled:
            half = want.shape[-1] // 2
            want = want.reshape(*want.shape[:2], half, 2, half, 2).amax((3, 5))
    want = want.flatten(1) @ next(weights).T + next(weights)
    assert torch.allclose(network(x), want, atol=1e-9)


def _variance(x, dims, keepdim):
    return x.var(dims, unbiased=False, keepdim=keepdim)


def test_vit_by_its_definition():
    network = build("vit", side=18).double()
    with torch.no_grad():  # of which the initial ones leave much out
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    x = torch.randn(2, 3, 18, 18, dtype=torch.float64)
    weights = dict(network.named_parameters())
    patches = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(2, 81, 12)
    kernel = weights["body.0.project.weight"].reshape(192, 12)
    want = patches @ kernel.T + weights["body.0.project.bias"] + weights["body.0.positions"]
    for block in range(1, 7):
        w = {k.removeprefix(f"body.{block}."): v for k, v in weights.items()}
        inner = _normed(want, w["norm1.weight"], w["norm1.bias"])
        query, key, value = (
            (inner @ m.T + b).reshape(2, 81, 3, 64).transpose(1, 2)
            for m, b in zip(
                w["self_attn.in_proj_weight"].chunk(3),
                w["self_attn.in_proj_bias"].chunk(3),
                strict=True,
            )
        )
        seen = ((query @ key.mT / 8).softmax(-1) @ value).transpose(1, 2).reshape(2, 81, 192)
        want = want + seen @ w["self_attn.out_proj.weight"].T + w["self_attn.out_proj.bias"]
        inner = _normed(want, w["norm2.weight"], w["norm2.bias"])
        inner = inner @ w["linear1.weight"].T + w["linear1.bias"]
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        want = want + inner @ w["linear2.weight"].T + w["linear2.bias"]
    want = _normed(want, weights["body.7.weight"], weights["body.7.bias"]).mean(1)
    assert torch.allclose(network.features(x), want, atol=1e-9)


def _normed(x, gain, offset):
    deviation = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return (x - x.mean(-1, keepdim=True)) / deviation * gain + offset


def test_vit_fills_odd_sizes_up_at_the_far_edges():
    network, whole = build("vit", side=30).eval(), build("vit", side=32).eval()
    images = torch.randn(2, 3, 30, 30)
    with torch.no_grad():
        filled = F.pad(images, (0, 2, 0, 2))
        assert torch.allclose(network(images), whole(filled), atol=1e-5)


@pytest.mark.parametrize(("side", "depth"), [(16, 3), (32, 3), (33, 4), (64, 4), (65, 5), (224, 5)])
def test_all_has_a_convnet_that_fits_and_one_of_each_other_kind(side, depth):
    chosen = choose_models(["all"], side)
    assert chosen == (f"convnet{depth}", "resnet18", "vgg11", "alexnet", "vit")
    assert set(chosen) <= set(MODEL_NAMES)
    assert choose_models(["vit", "a:b", "all", "vit"], side) == (
        *("vit", "a:b"),
        *(name for name in chosen if name != "vit"),
    )
