"""The generator: its formula, its file, what it learns and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import idctn
from store_builders import metadata_of, spec_of, write_set

from gencond_fast.errors import InputError, RunError
from gencond_fast.store import artifact, generator
from gencond_fast.store.blocks import bands_of, block_side
from gencond_fast.store.generator import Generator
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.weights import coded_weights

every = torch.arange(15)


def real_images(spec: StoreSpec, seed: int = 0) -> torch.Tensor:
    """Smooth ones, uint8, with some noise."""
    rng = np.random.default_rng(seed)
    side = spec.image_size
    row, column = np.mgrid[:side, :side] / side
    shape = (spec.samples, spec.channels, 1, 1)
    slopes = rng.normal(size=(3, *shape)) * 60
    images = 128 + slopes[0] * row + slopes[1] * column + slopes[2] * np.sin(5 * row * column)
    images = images + rng.normal(size=(*shape[:2], side, side)) * 5
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def wake(store: Generator, seed: int = 3) -> Generator:
    """With numbers in all weights, also those that start as zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in coded_weights(store):
            drawn = torch.randn(each.value.shape, generator=generator)
            each.value.add_(2 * each.step * drawn)
    return store


def by_formula(store: Generator) -> np.ndarray:
    """Images in double precision, block after block, for networks that add nothing."""
    spec = store.spec
    side = block_side(spec.image_size)
    grid = -(-spec.image_size // side)
    levels = np.clip(np.rint(store.codes.detach().double().numpy()), -1031, 1031)
    coded = np.clip(np.rint(store.log_steps.detach().double().numpy() * 16 + 160), 0, 255)
    values = levels * 2.0 ** ((coded - 160) / 16)[:, None, None]
    images = np.zeros((spec.samples, spec.channels, grid * side, grid * side))
    for row, column in np.ndindex(grid, grid):
        block = np.zeros((spec.samples, spec.channels, side, side))
        for number, band in enumerate(bands_of(store.zone.tolist(), side)):
            block[:, band.channel, band.row, band.column] = values[:, number, row, column]
        rows = slice(row * side, (row + 1) * side)
        columns = slice(column * side, (column + 1) * side)
        images[:, :, rows, columns] = idctn(block, axes=(2, 3), norm="ortho")
    images = images[..., : spec.image_size, : spec.image_size]
    images = np.einsum("ij,njhw->nihw", store.colours.double().numpy(), images)
    return np.clip(images + store.offset.double().numpy()[:, None, None], 0, 1)


@pytest.mark.parametrize(("side", "channels"), [(12, 3), (28, 1), (13, 3), (6, 3)])
def test_images_are_those_of_the_formula_while_the_networks_add_nothing(side, channels):
    spec = spec_of(image_size=side, channels=channels)
    store = Generator(spec, seed=2)
    store.init_from_images(real_images(spec))
    with torch.no_grad():
        store.codes.mul_(1.3)
        store.log_steps.add_(torch.randn(16, generator=torch.Generator().manual_seed(0)))
        assert np.abs(store(every).double().numpy() - by_formula(store)).max() < 1e-5


def test_enough_bands_and_fine_steps_give_the_real_images():
    spec = spec_of(image_size=13, coefficients=192)
    store, images = Generator(spec), real_images(spec)
    store.init_from_images(images)
    with torch.no_grad():
        scale = torch.exp2(store.log_steps + 7).view(-1, 1, 1)
        store.log_steps.fill_(-7.0)
        store.codes.mul_(scale)
        assert (store(every) - images / 255).abs().max() < 0.06


def test_steps_are_those_of_the_file():
    store = Generator(spec_of())
    with torch.no_grad():
        store.log_steps.copy_(torch.linspace(-14.0, 9.0, 16))  # beyond both ends
    stored = store.to_storage()
    steps = 2.0 ** ((stored["steps"].double() - 160) / 16)
    assert torch.allclose(store.steps().double(), steps, rtol=1e-6)
    assert (stored["steps"][0], stored["steps"][-1]) == (0, 255)
    other = Generator(store.spec, seed=5)
    other.load_storage(stored)
    assert torch.equal(other.steps(), store.steps())


@pytest.mark.parametrize("changes", [{}, {"image_size": 13, "width": 3}, {"channels": 1}])
def test_what_is_stored_gives_the_same_images_bit_for_bit(tmp_path, changes):
    spec = spec_of(**changes)
    store = Generator(spec, seed=1)
    store.init_from_images(real_images(spec))
    wake(store)
    with torch.no_grad():  # some beyond the bounds of levels, some in ranges of several
        store.codes[0, 0, 0, 0], store.codes[1, 1, 0, 0] = 5e4, -321.0
    artifact.save(tmp_path / "made", store, metadata_of(spec))
    loaded = artifact.load(tmp_path / "made").store
    with torch.no_grad():
        assert torch.equal(loaded(every), store(every))
    again = loaded.to_storage()
    assert all(torch.equal(value, again[name]) for name, value in store.to_storage().items())


def test_a_context_that_has_learned_nothing_makes_room():
    """Even levels of zero would not fit under its laws."""
    spec = spec_of(per_class=300, stream_bytes=4000)
    store = Generator(spec, seed=1)
    stored = store.to_storage()
    assert len(stored["stream"]) == 4000
    other = Generator(spec)
    other.load_storage(stored)


def test_levels_far_too_fine_become_coarse_rather_than_zero():
    """Where nothing was learned and levels take many times the bytes there are."""
    spec = spec_of(per_class=40, stream_bytes=120 * 30)
    store, images = Generator(spec, seed=1), real_images(spec)
    store.init_from_images(images)
    with torch.no_grad():
        store.codes.mul_(32)
        store.log_steps.sub_(5)
    other = Generator(spec)
    other.load_storage(store.to_storage())
    with torch.no_grad():
        wrong = (other(torch.arange(spec.samples)) - images / 255).square().mean()
    plain = (images / 255 - images.float().mean((0, 2, 3))[:, None, None] / 255).square().mean()
    assert wrong < 0.1 * plain


def test_networks_that_leave_no_room_give_way_too(tmp_path):
    spec = spec_of(stream_bytes=100)
    artifact.save(tmp_path / "made", wake(Generator(spec)), metadata_of(spec))
    assert not artifact.load(tmp_path / "made").store.synthesis.enter.weight.value.any()


def test_levels_that_nothing_makes_fit_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "fit_levels", lambda *_: None)
    spec = spec_of(stream_bytes=1000)
    with pytest.raises(RunError, match=r"the 1000 bytes of the codes are too few for .* 15 sample"):
        artifact.save(tmp_path / "made", wake(Generator(spec)), metadata_of(spec))
    assert not list(tmp_path.iterdir())


HOSTILE = {
    "negative length": (lambda t: t["lengths"].__setitem__(1, -1), "streams are longer"),
    "huge length": (lambda t: t["lengths"].fill_(2**31 - 1), "streams are longer"),
    "one word too many": (lambda t: t["lengths"].__setitem__(2, 10**6), "streams are longer"),
    "no weights": (lambda t: t["lengths"].copy_(t["lengths"].flip(0)), "its codes"),
    "nothing": (lambda t: t["lengths"].zero_(), "its codes"),
    "negative zone": (
        lambda t: t["zone"].copy_(torch.tensor([-1, 16, 1])),
        "frequencies are not as many",
    ),
    "too few bands": (lambda t: t["zone"].fill_(1), "frequencies are not as many"),
    "more than a channel has": (lambda t: t["zone"].copy_(torch.tensor([40, 0, 0])), "cannot be"),
    "another zone": (lambda t: t["zone"].copy_(t["zone"].flip(0) + torch.tensor([2, 0, -2])), ""),
    "wild colours": (lambda t: t["colours"].__setitem__(5, -1e7), "colours are out of bounds"),
    "other odds": (lambda t: t["odds"].add_(7), "its codes"),
    "noise": (lambda t: t["stream"].random_(0, 256), "its codes"),
    "other check": (lambda t: t["check"].add_(1), "do not come out as they were put in"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_do_not_go_together_are_refused_in_one_sentence(tmp_path, monkeypatch, name):
    change, said = HOSTILE[name]
    spec = spec_of(coefficients=40 if name == "more than a channel has" else 16)
    store = Generator(spec)
    tensors = {key: value.clone() for key, value in store.to_storage().items()}
    change(tensors)
    monkeypatch.setattr(store, "to_storage", lambda: tensors)  # and it is signed
    artifact.save(tmp_path / "made", store, metadata_of(spec))
    if not said:  # the same number of bands elsewhere: the context finds other levels or damage
        try:
            artifact.load(tmp_path / "made")
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
        return
    with pytest.raises(InputError, match=said) as caught:
        artifact.load(tmp_path / "made")
    assert str(caught.value).isprintable()
    assert str(tmp_path / "made") in str(caught.value)


def test_the_class_matters_once_it_is_learned():
    spec = spec_of(num_classes=2, per_class=4)
    store = Generator(spec, seed=1)
    with torch.no_grad():
        store.codes[4:] = store.codes[:4]
    index = torch.arange(8)
    one, other = store(index).detach().split(4)
    assert torch.equal(one, other)  # at the start the networks add nothing
    target = torch.cat((one * 0.8, other * 0.8 + 0.2))
    optimizer = torch.optim.Adam(store.synthesis.parameters(), lr=0.01)
    first = last = 0.0
    for step in range(150):
        loss = (store(index) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first if step else loss.item(), loss.item()
    assert last < 0.5 * first
    one, other = store(index).detach().split(4)
    assert float((other - one).mean()) > 0.05
    with torch.no_grad():  # and it is the embedding that does it
        store.synthesis.label.value[1] = store.synthesis.label.value[0]
        one, other = store(index).split(4)
    assert torch.equal(one, other)


def test_the_class_matters_for_what_a_level_costs():
    store = wake(Generator(spec_of(num_classes=2, per_class=1)))
    with torch.no_grad():
        store.codes[1] = store.codes[0]
        costs = [float(store.rate(torch.tensor([each]))) for each in (0, 1)]
        assert costs[0] != costs[1]
        store.context.label.value[1] = store.context.label.value[0]
        assert float(store.rate(torch.tensor([1]))) == pytest.approx(costs[0])


def test_fresh_levels_lie_up_to_half_way_to_those_of_the_class(monkeypatch):
    store = Generator(spec_of(num_classes=2, per_class=3))
    seen: list[Any] = []
    monkeypatch.setattr(store, "decode", lambda levels, labels: seen.append((levels, labels)))
    index = torch.arange(6).repeat(200)
    store.sample_around(index, torch.Generator().manual_seed(0))
    levels, labels = seen[0]
    assert torch.equal(labels, index // 3)
    own = store.codes.detach().round().double().flatten(1)
    shares = []
    for found, i in zip(levels.detach().double().flatten(1), index.tolist(), strict=True):
        fits = []
        for j in {*range(i // 3 * 3, i // 3 * 3 + 3)} - {i}:
            way = own[j] - own[i]
            share = float((found - own[i]) @ way / way.square().sum())
            if (own[i] + share * way - found).abs().max() < 1e-5:
                fits.append(share)
        assert fits
        shares.append(max(fits))
    moved = torch.tensor(shares)
    assert 0 <= moved.min() < 0.02
    assert 0.48 < moved.max() <= 0.5 + 1e-5
    assert abs(float(moved.mean()) - 0.25) < 0.02


def test_a_state_with_another_zone_is_taken_over():
    spec = spec_of()
    store = Generator(spec, seed=1)
    images = real_images(spec)
    images[:, 1:] = images[:, :1]  # one colour: its axis takes nearly all bands
    store.init_from_images(images)
    wake(store)
    state = copy.deepcopy(store.state_dict())
    other = Generator(spec, seed=2)
    assert not torch.equal(other.zone, store.zone)
    other.load_state_dict(state)
    assert torch.equal(other.zone, store.zone)
    assert torch.equal(other.context.related, store.context.related)
    with torch.no_grad():
        assert torch.equal(other(every), store(every))
        assert torch.equal(other.rate(every), store.rate(every))
    stored, again = store.to_storage(), other.to_storage()
    assert all(torch.equal(stored[name], again[name]) for name in stored)
    assert any(
        each is other.codes for group in other.parameter_groups() for each in group["params"]
    )


def test_loaded_from_the_file_it_is_what_was_written(tmp_path):
    store = write_set(tmp_path / "made", per_class=2)
    loaded = artifact.load(tmp_path / "made").store
    assert torch.equal(loaded.codes, store.codes.detach().round())
    assert loaded.coded_size() == pytest.approx(store.coded_size())
