"""The network in a file that labels augmented views: sized, rounded, written, read, attacked."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from store_builders import metadata_of, spec_of, split_file
from torch.nn.functional import softmax

from gencond_fast.errors import InputError
from gencond_fast.models.registry import build_classifier, usual_convnet
from gencond_fast.store import artifact
from gencond_fast.store.labeller import Labeller, LabellerSpec, choose_labeller, labeller_layout
from gencond_fast.store.stores import build_store

SPEC = LabellerSpec("convnet3", 8, 2000)


def trained(spec=SPEC, *, store=None, seed=0):
    """A network with weights of all sizes, as training leaves them; one tensor is zero."""
    store = store or spec_of("pixels")
    shape = (store.channels, store.num_classes, store.image_size)
    network = build_classifier(spec.model, *shape, seed=seed, width=spec.width)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in network.parameters():
            each.add_(0.05 * torch.randn(each.shape, generator=rng) * torch.rand((), generator=rng))
        next(network.parameters()).mul_(3.0)
        list(network.parameters())[1].zero_()
    return network


def made(spec=SPEC, seed=0):
    store = spec_of("pixels")
    labeller = Labeller(spec, store)
    labeller.take(trained(spec, store=store, seed=seed))
    return labeller, store


@pytest.fixture
def written(tmp_path):
    labeller, store = made()
    metadata = replace(metadata_of(store), labeller=SPEC)
    path = tmp_path / "made"
    size = artifact.save(path, build_store(store), metadata, labeller)
    assert size == os.path.getsize(path) == artifact.file_size(metadata)
    return path, labeller


def test_a_file_gives_the_same_network_back(written):
    path, labeller = written
    read = artifact.load(path).labeller
    for one, other in zip(labeller.network.parameters(), read.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert read.spec == SPEC


@pytest.mark.parametrize("size", [1200, 2000, 3200])
def test_labels_are_the_nearer_the_more_bytes_there_are(size):
    spec = LabellerSpec("convnet3", 8, size)
    labeller, store = made(spec)
    network = trained(spec, store=store).eval()
    images = torch.randn(64, store.channels, store.image_size, store.image_size)
    with torch.no_grad():
        away = softmax(network(images), 1) - softmax(labeller.network(images), 1)
    assert away.abs().max() < {1200: 0.25, 2000: 0.05, 3200: 0.02}[size]
    lengths = {name: each.numel() for name, each in labeller.to_storage().items()}
    assert lengths["labeller_stream"] == size


def test_what_it_stores_are_whole_steps():
    labeller, _ = made()
    steps = labeller.to_storage()["labeller_steps"].numpy()
    for parameter, step in zip(labeller.network.parameters(), steps, strict=True):
        whole = parameter.detach().numpy() / step
        np.testing.assert_allclose(whole, np.rint(whole), atol=1e-3)


def test_too_few_bytes_are_refused():
    with pytest.raises(InputError, match=r"100 bytes are too few .* convnet3@8"):
        made(LabellerSpec("convnet3", 8, 100))


def test_the_width_grows_with_the_bytes_and_with_no_more_than_they_hold():
    widths = []
    for budget in (10_000, 40_000, 160_000, 640_000):
        spec = choose_labeller(0.25, budget, 10, 3, 64, least=8)
        network = build_classifier(spec.model, 3, 10, 64, seed=0, width=spec.width)
        weights = sum(each.numel() for each in network.parameters())
        assert spec.bytes <= 0.25 * budget
        assert spec.bytes % 4 == 0
        assert 2.7 * weights <= 8 * spec.bytes
        widths.append(spec.width)
    assert widths == sorted(set(widths))
    assert (
        choose_labeller(0.25, 10**8, 10, 3, 64, least=8).bytes < 10**6
    )  # the widest takes what it needs
    assert choose_labeller(0.25, 1000, 10, 3, 64, least=8) is None
    narrow = choose_labeller(0.25, 10_000, 10, 3, 64, least=8)
    assert narrow.width < 24
    assert choose_labeller(0.25, 10_000, 10, 3, 64, least=24) is None
    assert choose_labeller(0.0, 10**6, 10, 3, 64, least=8) is None


@pytest.mark.parametrize(("side", "depth"), [(28, 3), (32, 3), (64, 4), (128, 5), (224, 5)])
def test_its_depth_is_that_of_the_students(side, depth):
    assert (
        choose_labeller(0.2, 10**6, 10, 3, side, least=8).model
        == usual_convnet(side)
        == f"convnet{depth}"
    )


def test_a_description_of_more_weights_than_bytes_could_hold_is_refused():
    with pytest.raises(ValueError, match="more than 64 weights in a byte"):
        Labeller(LabellerSpec("convnet5", 1024, 4), spec_of("pixels"))


def test_files_without_one_are_written_as_before(tmp_path):
    store = spec_of("pixels")
    artifact.save(tmp_path / "made", build_store(store), metadata_of(store))
    header, _ = split_file((tmp_path / "made").read_bytes())
    fields = json.loads(header["__metadata__"]["gencond_fast"])
    assert "labeller" not in fields
    assert fields["version"] == 1


def test_damage_is_noticed(written):
    path, _ = written
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 2100, len(content), 50):
        spoiled = bytearray(content)
        spoiled[place] ^= 0x5A
        path.write_bytes(spoiled)
        with pytest.raises(InputError):
            artifact.load(path)


def test_a_stream_that_fits_its_checksum_alone_is_no_labeller():
    labeller, store = made()
    tensors = {name: each.clone() for name, each in labeller.to_storage().items()}
    tensors["labeller_stream"][:100] = 255 - tensors["labeller_stream"][:100]
    with pytest.raises(ValueError, match=r"labeller does not come out|codes are damaged"):
        Labeller(SPEC, store).load_storage(tensors)


def test_shapes_are_known_without_building_it():
    labeller, store = made()
    layout = labeller_layout(SPEC, store)
    stored = labeller.to_storage()
    assert {n: (t.shape, t.dtype) for n, t in layout.items()} == {
        n: (t.shape, t.dtype) for n, t in stored.items()
    }
