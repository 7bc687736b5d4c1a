"""Stored sets: what they decode, store, round and learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from store_builders import spec_of

from gencond_fast.errors import InputError
from gencond_fast.store.store import straight_through
from gencond_fast.store.stores import build_store, storage_layout
from gencond_fast.store.weights import coded_weights

every_format = pytest.mark.parametrize("format", ["dct", "generator", "pixels"])


def test_gradients_pass_straight_through():
    value = torch.tensor([0.3], requires_grad=True)
    out = straight_through(value, torch.tensor([7.0]))
    assert out.item() == pytest.approx(7.0)
    out.backward()
    assert value.grad.item() == 1.0


@every_format
@pytest.mark.parametrize("side", [8, 28, 30, 64, 13])
@pytest.mark.parametrize("channels", [1, 3])
def test_decodes_to_images(format, side, channels):
    small = {"code_size": 4} if format == "pixels" else {}
    spec = spec_of(format, image_size=side, channels=channels, **small)
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
    drawn = [name for name in learned if one[name].unique().numel() > 1]  # some start as zeros
    assert {"codes", "images"} & {*drawn}
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


@every_format
@pytest.mark.parametrize("side", [8, 28, 30, 64])
def test_layout_is_that_of_the_real_storage(format, side):
    small = {"code_size": 4} if format == "pixels" else {}
    spec = spec_of(format, image_size=side, num_classes=2, **small)
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
    assert torch.equal(store(index), other(index))


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
    index = torch.tensor([1, 6])
    if format == "generator":
        with torch.no_grad():  # last layers start as zeros, which lets no gradient past
            for last in (store.synthesis.leave, store.synthesis.last):
                last.weight.value.normal_(std=0.05)
    loss = store(index).square().sum()
    if (rate := store.rate(index)) is not None:  # what the context learns from
        loss = loss + rate
    loss.backward()
    groups = store.parameter_groups()
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in store.parameters())
    samples = store.images if format == "pixels" else store.codes
    touched = samples.grad.flatten(1).abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [1, 6]
    assert all(p.grad.abs().sum() > 0 for p in store.parameters())
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    assert scale.pop(id(samples)) == (10.0 if format == "pixels" else 30.0)
    assert set(scale.values()) <= {1.0}


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
        {"code_size": 1},
        {"coefficients": 109},
        {"coefficients": 0},
        {"format": "wavelets"},
        {"colour": 1},
    ],
)
def test_impossible_descriptions(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        spec_of(**({"format": "generator"} | wrong))


def test_networks_that_a_small_file_unfolds_to_are_bounded():
    for wide in ({"width": 4096}, {"num_classes": 1000, "width": 1000}):
        with pytest.raises(ValueError, match="more than 64 weights in a byte"):
            spec_of(**wide, per_class=1, stream_bytes=8000)


@pytest.mark.parametrize(
    "changes",
    [{}, {"width": 3, "channels": 1, "image_size": 28}, {"num_classes": 40, "image_size": 13}],
)
def test_the_description_counts_all_weights(changes):
    spec = spec_of(**changes)
    coded = coded_weights(build_store(spec))
    assert spec.weights == sum(each.value.numel() for each in coded)
