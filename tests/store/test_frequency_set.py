"""Frequencies as a stored set: decoding, adopting, pricing, fitting into bytes."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from store_builders import metadata_of, spec_of

from gencond_fast.errors import InputError, RunError
from gencond_fast.store import artifact, entropy
from gencond_fast.store.dct import FrequencySet
from gencond_fast.store.stores import build_store, storage_layout

SIZES = [(1, 5), (3, 8), (1, 28), (3, 33)]


def pictures(count: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    """uint8 images whose power falls with the frequency, as that of photographs does."""
    rng = np.random.default_rng(seed)
    where = np.arange(side)
    falling = 1.0 / (1.0 + np.hypot(where[:, None], where[None])) ** 1.5
    spectrum = rng.normal(size=(count, channels, side, side)) * falling * side
    turned = transform(side).T @ spectrum @ transform(side)
    mixed = np.einsum("ij,njhw->nihw", np.eye(channels) + 0.5, turned)
    return torch.from_numpy(np.clip(128 + 60 * mixed, 0, 255).astype(np.uint8))


def transform(side: int) -> np.ndarray:
    """Rows of the orthonormal DCT-II."""
    k, n = np.arange(side)[:, None], np.arange(side)[None]
    norm = np.where(k == 0, math.sqrt(1 / side), math.sqrt(2 / side))
    return norm * np.cos(math.pi * k * (n + 0.5) / side)


def made(channels: int, side: int, share: float = 0.5, **changes) -> FrequencySet:
    """Twelve samples with half of the coefficients, in a byte and a half a pixel in ten."""
    kept = max(1, round(share * channels * side**2))
    sizes = {
        "num_classes": 3,
        "per_class": 4,
        "channels": channels,
        "image_size": side,
        "coefficients": kept,
        "stream_bytes": 4 * (12 * channels * side**2 // 25),
    }
    return FrequencySet(spec_of("dct", **(sizes | changes)), seed=3)


def adopted(channels: int, side: int, share: float = 0.5, **changes) -> FrequencySet:
    store = made(channels, side, share, **changes)
    store.init_from_images(pictures(store.spec.samples, channels, side))
    return store


def kept_frequencies(store: FrequencySet) -> list[tuple[int, int, int]]:
    """Channel, row and column of each code, in the order of the file."""
    side = store.spec.image_size
    every = [(row, column) for row in range(side) for column in range(side)]
    every.sort(key=lambda at: (at[0] ** 2 + at[1] ** 2, at[0]))
    return [(c, *at) for c, count in enumerate(store.zone.tolist()) for at in every[:count]]


def basis_images(store: FrequencySet) -> np.ndarray:
    """What one step of each code adds to an image: float64 [K, channels, S, S]."""
    waves = transform(store.spec.image_size)
    axes = store.colours.double().numpy()
    return np.stack(
        [
            float(store.step) * axes[:, c, None, None] * np.outer(waves[row], waves[column])
            for c, row, column in kept_frequencies(store)
        ]
    )


def decoded(store: FrequencySet) -> np.ndarray:
    """Images by the definition of the transform, in float64, sample after sample."""
    codes = np.clip(
        np.rint(store.codes.detach().double().numpy()), -entropy.LARGEST, entropy.LARGEST
    )
    basis, offset = basis_images(store), store.offset.double().numpy()[:, None, None]
    sums = [sum(level * image for level, image in zip(row, basis, strict=True)) for row in codes]
    return np.clip(np.stack(sums) + offset, 0.0, 1.0)


def every(store: FrequencySet) -> torch.Tensor:
    return torch.arange(store.spec.samples)


@torch.no_grad()
def images_of(store: FrequencySet) -> torch.Tensor:
    return store(every(store))


@pytest.mark.parametrize(("channels", "side"), SIZES)
@pytest.mark.parametrize("fill", ["images", "noise"])
def test_images_are_the_inverse_transform_of_the_levels(channels, side, fill):
    store = made(channels, side)
    if fill == "images":
        store.init_from_images(pictures(12, channels, side))
    images = images_of(store)
    assert images.shape == (12, channels, side, side)
    assert images.dtype == torch.float32
    assert np.abs(images.numpy() - decoded(store)).max() < 2e-5
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize(("channels", "side"), SIZES)
def test_adopted_images_are_as_good_as_quantised_coefficients(channels, side):
    store = adopted(channels, side)
    real = pictures(12, channels, side).double().numpy() / 255
    waves, axes = transform(side), store.colours.double().numpy()
    centred = real - store.offset.double().numpy()[:, None, None]
    spectrum = waves @ np.einsum("ij,nihw->njhw", axes, centred) @ waves.T
    step = float(store.step)
    rounded = np.zeros_like(spectrum)
    for c, row, column in kept_frequencies(store):
        rounded[:, c, row, column] = step * np.rint(spectrum[:, c, row, column] / step)
    turned = np.einsum("ij,njhw->nihw", axes, waves.T @ rounded @ waves)
    want = np.clip(turned + store.offset.double().numpy()[:, None, None], 0, 1)
    error = np.square(images_of(store).numpy() - real).mean()
    assert error == pytest.approx(np.square(want - real).mean(), rel=0.01)
    assert error < 0.5 * np.square(centred).mean()


def test_more_bytes_are_smaller_errors():
    real = pictures(12, 3, 28).float() / 255
    errors = []
    for stream in (400, 800, 1600, 3200, 6400):
        store = adopted(3, 28, stream_bytes=stream, coefficients=1500)
        errors.append(float((images_of(store) - real).square().mean()))
    assert all(more < 0.8 * fewer for fewer, more in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("stream", [1200, 2400, 6000])
def test_adopting_uses_the_bytes(stream):
    store = adopted(3, 28, stream_bytes=stream, coefficients=1000)
    levels = np.rint(store.codes.detach().numpy()).astype(np.int16)
    coded = len(entropy.encode(levels, entropy.fit(entropy.count(levels))))
    assert 0.98 * stream - 8 <= coded <= stream


def test_the_strongest_frequencies_and_colours_are_kept():
    store = adopted(3, 28, share=0.2)
    zone = store.zone.tolist()
    assert sum(zone) == store.spec.coefficients
    axes = store.colours.double()
    assert (axes.T @ axes - torch.eye(3)).abs().max() < 1e-6
    pixels = pictures(12, 3, 28).double().permute(1, 0, 2, 3).flatten(1) / 255
    spread = (axes.T @ (pixels - pixels.mean(1, keepdim=True))).var(1)
    assert spread.sort(descending=True).indices.tolist() == [0, 1, 2]
    covariance = torch.cov(axes.T @ pixels)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-6
    assert zone[0] > zone[1] >= zone[2]


def test_the_gradient_passes_straight_through():
    store = adopted(3, 8)
    index = torch.tensor([7, 0, 7])
    weights = torch.randn(3, 3, 8, 8)
    (store(index) * weights).sum().backward()
    basis = basis_images(store)
    want = np.zeros(store.codes.shape)
    for at, weight in zip(index.tolist(), weights.double().numpy(), strict=True):
        want[at] += [(image * weight).sum() for image in basis]
    assert np.abs(store.codes.grad.numpy() - want).max() < 1e-4 * np.abs(want).max()


def plain_cost(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Bits of a sample, of the mass that Laplace distributions have around its codes."""

    def below(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x < 0, 0.5 * torch.exp(x / scale), 1 - 0.5 * torch.exp(-x / scale))

    mass = below(0.5 - codes.abs()) - below(-0.5 - codes.abs())
    return -mass.log2().sum()


def test_the_rate_is_that_of_laplace_distributions():
    store = made(3, 8)
    with torch.no_grad():
        store.codes.copy_(3 * torch.randn(store.codes.shape))
        store.scales.copy_(0.5 + 2 * torch.rand(store.scales.shape))
    index = torch.tensor([1, 5, 2, 11])
    codes = store.codes.detach().double()[index].requires_grad_()
    want = store.price.double() * plain_cost(codes, store.scales.double())
    want.backward()
    found = store.rate(index)
    found.backward()
    assert found.item() == pytest.approx(want.item(), rel=1e-5)
    assert torch.allclose(store.codes.grad[index].double(), codes.grad, rtol=1e-4, atol=1e-9)
    assert not store.codes.grad[[0, 3, 4, 6, 7, 8, 9, 10]].any()


@pytest.mark.parametrize("value", [0.0, 0.1, 0.4999, 0.5, 0.5001, 3.0, 1023.0, 1e30])
@pytest.mark.parametrize("scale", [2e-3, 0.3, 5.0, 1023.0])
def test_the_rate_is_finite_and_draws_towards_zero(value, scale):
    store = made(1, 8)
    with torch.no_grad():
        store.codes.fill_(value)
        store.scales.fill_(scale)
    cost = store.rate(every(store))
    cost.backward()
    assert cost.isfinite()
    assert 0 <= cost <= 30.001 * store.price * store.codes.numel()
    assert store.codes.grad.isfinite().all()
    assert (store.codes.grad >= 0).all()


@pytest.mark.parametrize("stream", [1200, 4000, 12_000])
def test_the_rate_is_about_the_coded_size(stream):
    store = adopted(3, 28, num_classes=10, per_class=20, stream_bytes=4 * stream)
    levels = np.rint(store.codes.detach().numpy()).astype(np.int16)
    coded = len(entropy.encode(levels, entropy.fit(entropy.count(levels))))
    bits = (store.rate(every(store)) / store.price).item()
    assert bits / 8 == pytest.approx(coded, rel=0.15)


@pytest.mark.parametrize(("factor", "rises"), [(2.0, True), (0.5, False)])
def test_the_price_follows_the_bytes(factor, rises):
    store = adopted(3, 28)
    with torch.no_grad():
        store.codes.mul_(factor)
    prices = [float(store.price)]
    for _ in range(4):
        store.update_price()
        prices.append(float(store.price))
    order = sorted(prices) if rises else sorted(prices, reverse=True)
    assert prices == order
    assert prices[-1] != prices[0]
    scales = np.abs(np.rint(store.codes.detach().double().numpy())).mean(0).clip(2e-3)
    assert np.abs(store.scales.numpy() - scales).max() < 1e-4


def test_parts_of_a_set_find_the_price_of_the_whole():
    whole = adopted(3, 28, num_classes=5)
    with torch.no_grad():
        whole.codes.mul_(1.7)
    state, parts = whole.state_dict(), []
    for classes in ([0, 3], [1, 2, 4]):
        spec = replace(whole.spec, num_classes=len(classes))
        rows = whole.codes.detach().view(5, -1, spec.coefficients)[classes].flatten(0, 1)
        parts.append(FrequencySet(spec))
        parts[-1].load_state_dict(state | {"codes": rows})
    counts = []
    for part in parts:
        part.update_price(lambda tensors: counts.append(tensors[0].clone()))
    for part in parts:
        part.load_state_dict(state | {"codes": part.codes.detach().clone()})
        part.update_price(lambda tensors: tensors[0].copy_(sum(counts)))
    whole.update_price()
    assert not torch.equal(whole.price, state["price"].new_tensor(1e-4))
    for part in parts:
        assert torch.equal(part.price, whole.price)
        assert torch.equal(part.base, whole.base)
        assert torch.equal(part.scales, whole.scales)


def test_the_price_stays_where_the_bytes_are_just_used():
    store = adopted(3, 28)
    before = float(store.price)
    for _ in range(10):
        store.update_price()
    assert float(store.price) == pytest.approx(before, rel=0.3)


def test_the_price_is_bounded():
    store = made(1, 8)
    with torch.no_grad():
        store.codes.fill_(1e9)
    for _ in range(200):
        store.update_price()
    assert float(store.price) == 1.0
    with torch.no_grad():
        store.codes.zero_()
    for _ in range(200):
        store.update_price()
    assert 0 < float(store.price) < 1e-12


FAR = {
    "a little": lambda codes: codes * 1.3,
    "much": lambda codes: codes * 50,
    "absurdly": lambda codes: codes * 1e20,
    "all alike": lambda codes: torch.full_like(codes, 1e6),
    "signs": lambda codes: 1e6 * codes.sign(),
    "one": lambda codes: codes * 0 + torch.eye(*codes.shape) * 3e38,
    "nothing": lambda codes: codes * 0,
}


@pytest.mark.parametrize("how", FAR)
@pytest.mark.parametrize("stream", [None, 48])
def test_the_stream_is_never_too_long(how, stream, tmp_path):
    changes = {"stream_bytes": stream, "coefficients": 200} if stream else {}
    store = adopted(3, 28, **changes)
    with torch.no_grad():
        store.codes.copy_(FAR[how](store.codes))
    stored = store.to_storage()
    layout = storage_layout(store.spec)
    assert {n: (t.shape, t.dtype) for n, t in layout.items()} == {
        n: (t.shape, t.dtype) for n, t in stored.items()
    }
    other = build_store(store.spec)
    other.load_storage(stored)
    levels = np.clip(np.rint(store.codes.detach().numpy()), -entropy.LARGEST, entropy.LARGEST)
    found = other.codes.detach().numpy()
    lost = found != levels
    assert (found[lost] == 0).all()
    if lost.any() and (~lost & (levels != 0)).any():  # the largest are the ones that stay
        size = np.abs(store.codes.detach().numpy())
        assert size[lost].max() <= size[~lost & (levels != 0)].min()


def test_of_codes_that_are_too_many_as_many_stay_as_fit():
    store = adopted(3, 28)
    with torch.no_grad():
        store.codes.mul_(1.3)
    other = build_store(store.spec)
    other.load_storage(store.to_storage())
    levels = other.codes.detach().numpy().astype(np.int16)
    coded = len(entropy.encode(levels, entropy.fit(entropy.count(levels))))
    assert 0.97 * store.spec.stream_bytes <= coded <= store.spec.stream_bytes


@pytest.mark.parametrize(("channels", "side"), SIZES)
def test_a_file_has_the_same_bits(tmp_path, channels, side):
    store = adopted(channels, side, num_classes=2, per_class=5)
    said = artifact.save(tmp_path / "made", store, metadata_of(store.spec))
    assert said == artifact.file_size(metadata_of(store.spec))
    loaded = artifact.load(tmp_path / "made").store
    assert torch.equal(images_of(loaded), images_of(store))
    assert torch.equal(loaded.zone, store.zone)
    assert torch.equal(loaded.scales, store.scales)
    rngs = (torch.Generator().manual_seed(1) for _ in range(2))
    fresh = [
        each.sample_around(every(store), rng)
        for each, rng in zip((store, loaded), rngs, strict=True)
    ]
    assert torch.equal(*fresh)


def test_a_state_brings_its_zone():
    store = adopted(3, 28)
    store.update_price()
    other = made(3, 28)
    assert other.zone.tolist() != store.zone.tolist()
    assert other.load_state_dict(store.state_dict()).missing_keys == []
    assert torch.equal(images_of(other), images_of(store))
    assert torch.equal(other.rate(every(other)), store.rate(every(store)))
    other.update_price()
    store.update_price()
    assert torch.equal(other.price, store.price)


def test_fresh_images_lie_up_to_half_way_to_one_of_the_class():
    store = adopted(1, 8, num_classes=2, per_class=3)
    index = torch.arange(6).repeat(100)
    own = torch.from_numpy(decoded(store))
    shares = []
    with torch.no_grad():
        images = store.sample_around(index, torch.Generator().manual_seed(0)).double()
    for image, i in zip(images, index.tolist(), strict=True):
        fits = []
        for j in range(i // 3 * 3, i // 3 * 3 + 3):
            way = own[j] - own[i]
            share = float(((image - own[i]) * way).sum() / way.square().sum()) if j != i else 0.0
            # clamped where the stored ones are
            inside = (image > 0) & (image < 1) & (own[i] > 0) & (own[i] < 1)
            inside &= (own[j] > 0) & (own[j] < 1)
            if j != i and (own[i] + share * way - image)[inside].abs().max() < 0.02:
                fits.append(share)
        assert fits, i
        shares.append(min(fits))
    assert max(shares) <= 0.55
    assert min(shares) < 0.02
    assert abs(float(np.mean(shares)) - 0.25) < 0.03


def test_fresh_images_of_a_single_sample_are_that_sample():
    store = adopted(3, 8, per_class=1)
    with torch.no_grad():
        assert torch.equal(store.sample_around(every(store), torch.Generator()), images_of(store))


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_colour(value, channels, tmp_path):
    store = made(channels, 8)
    store.init_from_images(torch.full((12, channels, 8, 8), value, dtype=torch.uint8))
    store.update_price()
    assert store.rate(every(store)).isfinite()
    assert (images_of(store) - value / 255).abs().max() < 1e-5
    artifact.save(tmp_path / "made", store, metadata_of(store.spec))
    assert torch.equal(images_of(artifact.load(tmp_path / "made").store), images_of(store))


def test_a_single_sample_of_a_single_coefficient(tmp_path):
    spec = spec_of("dct", num_classes=1, per_class=1, coefficients=1, stream_bytes=4)
    store = FrequencySet(spec)
    store.init_from_images(pictures(1, 3, 12))
    artifact.save(tmp_path / "made", store, metadata_of(spec))
    mean = pictures(1, 3, 12).float().mean((2, 3)) / 255
    assert (images_of(store).mean((2, 3)) - mean).abs().max() < 0.05
    assert torch.equal(images_of(artifact.load(tmp_path / "made").store), images_of(store))


@pytest.mark.parametrize("contrast", ["photographs", "checks", "black and white"])
def test_bytes_in_plenty_give_the_images_back(contrast):
    """The step ends where levels would leave their bounds, or pixels are within their rounding."""
    images = pictures(12, 1, 64)
    if contrast == "checks":
        images = images // 255 * 0 + (torch.arange(64) % 2 * 255).to(torch.uint8)
    if contrast == "black and white":
        images = torch.zeros_like(images)
        images[::2] = 255
    store = made(1, 64, share=1.0, stream_bytes=4 * 64 * 64 * 12)
    store.init_from_images(images)
    largest = float((store.codes.detach() * store.step).abs().max())
    assert float(store.codes.detach().abs().max()) <= entropy.LARGEST + 0.01
    assert float(store.step) == pytest.approx(max(1 / 255, largest / entropy.LARGEST), rel=1e-3)
    error = (images_of(store) - images / 255).square().mean().sqrt()
    assert error <= 0.35 * store.step  # 1/sqrt(12) of it, by Parseval


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_codes_that_are_no_numbers_are_not_written(number, tmp_path):
    store = adopted(3, 8)
    with torch.no_grad():
        store.codes[2, 3] = number
    store.update_price()
    assert store.price.isfinite()
    with pytest.raises(RunError, match="numbers that are not finite"):
        artifact.save(tmp_path / "made", store, metadata_of(store.spec))
    assert list(tmp_path.iterdir()) == []


def test_impossible_descriptions():
    wrong = {
        "coefficients are none": {"coefficients": 0},
        "more than an image has": {"coefficients": 3 * 144 + 1, "stream_bytes": 4000},
        "whole number of words": {"stream_bytes": 401},
        "more than 64 coefficients in a byte": {"per_class": 600},
    }
    for words, changes in wrong.items():
        with pytest.raises(ValueError, match=words):
            spec_of("dct", **changes)


def test_without_the_coder_nothing_is_begun(monkeypatch):
    spec = spec_of("dct")
    monkeypatch.setitem(sys.modules, "constriction", None)
    for use in (build_store, storage_layout):
        with pytest.raises(InputError, match="needs the package constriction"):
            use(spec)
