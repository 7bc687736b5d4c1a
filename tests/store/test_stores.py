"""Stored sets: what they decode, store, round and learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from store_builders import spec_of

from gencond_fast.errors import InputError
from gencond_fast.store.generator import CodeGenerator, pyramid
from gencond_fast.store.store import fake_int8, straight_through, to_int8
from gencond_fast.store.stores import build_store, storage_layout

every_format = pytest.mark.parametrize("format", ["dct", "generator", "pixels"])


def test_int8_levels_are_exact():
    values = torch.cat((torch.linspace(-1.5, 1.5, 4001), torch.tensor([-1.0, 0.0, 1.0, 1e-9])))
    wide = values.double().numpy()
    levels = np.rint(np.clip(values.numpy(), -1, 1) * np.float32(127))
    assert np.array_equal(to_int8(values).numpy(), levels.astype(np.int8))
    assert to_int8(values).min() == -127
    rounded = fake_int8(values).double().numpy()
    assert np.abs(rounded - levels / 127).max() < 1e-7
    inside = np.abs(wide) <= 1
    assert np.abs(rounded - wide)[inside].max() <= 0.5 / 127 + 1e-7


def test_every_level_is_its_own_rounding():
    levels = torch.arange(-127, 128)
    assert torch.equal(to_int8(levels.float() / 127.0), levels.to(torch.int8))
    assert torch.equal(to_int8(fake_int8(levels.float() / 127.0)), levels.to(torch.int8))


def test_gradients_pass_straight_through():
    values = torch.tensor([-3.0, -1.0, -0.2, 0.0, 0.7, 5.0], requires_grad=True)
    slopes = torch.arange(1.0, 7.0)
    (fake_int8(values) * slopes).sum().backward()
    assert torch.equal(values.grad, slopes)
    value = torch.tensor([0.3], requires_grad=True)
    out = straight_through(value, torch.tensor([7.0]))
    assert out.item() == pytest.approx(7.0)
    out.backward()
    assert value.grad.item() == 1.0


@given(code=st.integers(1, 64), image=st.integers(4, 300))
def test_pyramid_at_most_doubles(code, image):
    code = min(code, image)
    sides = pyramid(code, image)
    assert (sides[0], sides[-1]) == (code, image)
    assert all(a < b <= 2 * a for a, b in zip(sides, sides[1:], strict=False))
    assert len(sides) - 1 == int(np.ceil(np.log2(image / code) - 1e-9))


@every_format
@pytest.mark.parametrize(("side", "code"), [(8, 1), (8, 2), (28, 4), (30, 4), (64, 8), (13, 13)])
@pytest.mark.parametrize("channels", [1, 3])
def test_decodes_to_images(format, side, code, channels):
    spec = spec_of(format, image_size=side, code_size=code, channels=channels)
    images = build_store(spec)(torch.tensor([14, 0, 3]))
    assert images.shape == (3, channels, side, side)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1


@every_format
def test_labels_go_class_after_class(format):
    store = build_store(spec_of(format))
    assert store.labels(torch.tensor([0, 4, 5, 14])).tolist() == [0, 0, 1, 2]
    assert store.spec.samples == 15


@every_format
def test_samples_do_not_depend_on_their_batch(format):
    store = build_store(spec_of(format))
    index = torch.tensor([7, 2, 7, 11])
    together = store(index)
    alone = torch.cat([store(i[None]) for i in index])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.equal(together[0], together[2])


def test_the_class_matters():
    spec = spec_of(per_class=1)
    store = build_store(spec)
    with torch.no_grad():
        store.codes[1] = store.codes[0]
    a, b = store(torch.tensor([0, 1]))
    assert not torch.allclose(a, b, atol=1e-4)


@every_format
def test_initial_values_come_from_the_seed_alone(format):
    torch.manual_seed(1)
    one = build_store(spec_of(format), seed=5).state_dict()
    state = torch.get_rng_state()
    two = build_store(spec_of(format), seed=5).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    other = build_store(spec_of(format), seed=6).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    learned = [name for name, _ in build_store(spec_of(format)).named_parameters()]
    assert learned
    assert not any(torch.equal(one[name], other[name]) for name in learned)


@every_format
@pytest.mark.parametrize("side", [8, 28, 30, 64])
def test_layout_is_that_of_the_real_storage(format, side):
    spec = spec_of(format, image_size=side, code_size=4, num_classes=2)
    layout, real = storage_layout(spec), build_store(spec).to_storage()
    assert {n: (t.shape, t.dtype) for n, t in layout.items()} == {
        n: (t.shape, t.dtype) for n, t in real.items()
    }
    assert all(tensor.is_meta for tensor in layout.values())


def test_layout_of_terabytes_is_free():
    spec = spec_of("pixels", num_classes=1000, per_class=10**6, image_size=224, code_size=224)
    assert storage_layout(spec)["images"].numel() == 1000 * 10**6 * 3 * 224 * 224
    many = {"num_classes": 1000, "per_class": 10**6, "coefficients": 60}
    layout = storage_layout(spec_of("dct", **many, stream_bytes=2**40))
    assert layout["stream"].numel() == 2**40


@every_format
def test_storage_round_trip(format):
    spec = spec_of(format)
    store, other = build_store(spec, seed=1), build_store(spec, seed=2)
    stored = store.to_storage()
    other.load_storage(stored)
    again = other.to_storage()
    assert all(torch.equal(stored[name], again[name]) for name in stored)
    index = torch.arange(spec.samples)
    assert (store(index) - other(index)).abs().max() < 2e-3


def test_pixels_are_rounded_to_bytes_and_enlarged():
    spec = spec_of("pixels", image_size=12, code_size=6)
    store = build_store(spec)
    with torch.no_grad():
        store.images.mul_(1.4).sub_(0.2)  # some outside of the range
    stored = (store.images.detach().clamp(0, 1) * 255).round()
    assert torch.equal(store.to_storage()["images"], stored.to(torch.uint8))
    want = F.interpolate(stored.double() / 255, (12, 12), mode="bilinear", align_corners=False)
    assert torch.allclose(store(torch.arange(15)).double(), want, atol=1e-6)


def test_pixels_of_full_side_are_themselves():
    store = build_store(spec_of("pixels"))
    levels = store(torch.arange(15)) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert (levels / 255 - store.images).abs().max() <= 0.5 / 255 + 1e-6


@every_format
def test_every_parameter_learns_and_only_the_samples_in_the_batch(format):
    store = build_store(spec_of(format))
    store(torch.tensor([1, 6])).square().sum().backward()
    groups = store.parameter_groups()
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in store.parameters())
    samples = store.images if format == "pixels" else store.codes
    touched = samples.grad.flatten(1).abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [1, 6]
    assert all(p.grad.abs().sum() > 0 for p in store.parameters())
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    assert scale.pop(id(samples)) == (30.0 if format == "dct" else 10.0)
    assert set(scale.values()) <= {1.0}


def test_fresh_codes_lie_up_to_half_way_to_a_code_of_the_class(monkeypatch):
    spec = spec_of(num_classes=2, per_class=3)
    store = CodeGenerator(spec, seed=0)
    seen = []
    monkeypatch.setattr(
        store.decoder, "forward", lambda codes, labels: seen.append((codes, labels))
    )
    index = torch.arange(6).repeat(200)
    store.sample_around(index, torch.Generator().manual_seed(0))
    codes, labels = seen[0]
    assert torch.equal(labels, index // 3)
    own = (store.to_storage()["codes"].double() / 127).flatten(1)
    shares = []
    for code, i in zip(codes.detach().double().flatten(1), index.tolist(), strict=True):
        fits = []
        for j in range(i // 3 * 3, i // 3 * 3 + 3):
            way = own[j] - own[i]
            share = float((code - own[i]) @ way / way.square().sum()) if j != i else 0.0
            if (own[i] + share * way - code).abs().max() < 1e-6:
                fits.append(share)
        assert fits
        shares.append(max(fits))
    moved = torch.tensor([s for s in shares if s > 1e-6])
    assert 0 < moved.min() < 0.02
    assert 0.48 < moved.max() <= 0.5 + 1e-6
    assert abs(float(moved.mean()) - 0.25) < 0.02


@pytest.mark.parametrize("format", ["dct", "generator"])
def test_fresh_images(format):
    store = build_store(spec_of(format))
    index = torch.arange(15)
    one, two, other = (
        store.sample_around(index, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert one.shape == (15, 3, 12, 12)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_pixels_have_no_stream():
    store = build_store(spec_of("pixels"))
    with pytest.raises(InputError, match="has no codes to draw a stream from"):
        store.sample_around(torch.arange(2), torch.Generator())


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 2},
        {"num_classes": 0},
        {"per_class": 0},
        {"image_size": 3},
        {"image_size": 1025},
        {"width": 0},
        {"code_size": 13},
        {"format": "wavelets"},
        {"colour": 1},
    ],
)
def test_impossible_descriptions(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        spec_of(**({"format": "generator"} | wrong))
