"""Soft labels in a stored set and in its file: how exact, how large, what is refused."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from store_builders import metadata_of, spec_of, split_file, write_set

import gencond_fast as gf
from gencond_fast.config import StoreConfig
from gencond_fast.data import open_source
from gencond_fast.errors import InputError
from gencond_fast.exporting import export
from gencond_fast.store import artifact, budget
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store


def small(classes: int, kept: int, per_class: int = 2, format: str = "pixels") -> StoreSpec:
    sizes = {"num_classes": classes, "per_class": per_class, "soft_labels": kept, "channels": 1}
    return spec_of(format, **sizes, image_size=4)


def draw(rng: np.random.Generator, count: int, classes: int, peak: float) -> np.ndarray:
    return rng.dirichlet([peak] * classes, count)


def kept_and_shared(row: np.ndarray, kept: int) -> np.ndarray:
    """What a stored label stands for, one class at a time."""
    order = sorted(range(len(row)), key=lambda c: -row[c])[:kept]
    levels = {c: int(np.floor(255 * row[c] + 0.5)) for c in order}
    levels[order[0]] = max(levels[order[0]], 1)
    rest = max(0, 255 - sum(levels.values()))
    others = len(row) - kept
    label = [levels.get(c, rest / others if others else 0.0) for c in range(len(row))]
    return np.array(label) / sum(label)


problems = st.tuples(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 3),
    st.floats(0.05, 5),
    st.integers(0, 99),
).map(lambda p: (max(p[:2]), min(p[:2]), *p[2:]))


@given(problems)
def test_kept_labels_are_those_of_the_description(problem):
    classes, kept, per_class, peak, seed = problem
    store = build_store(small(classes, kept, per_class))
    want = draw(np.random.default_rng(seed), classes * per_class, classes, peak)
    order = torch.randperm(len(want), generator=torch.Generator().manual_seed(seed))
    for part in order.split(7):  # in parts and in any order
        store.soft_labels.keep(part, torch.from_numpy(want)[part])
    got = store.targets(torch.arange(len(want)))
    assert got.dtype == torch.float32
    assert got.shape == (len(want), classes)
    torch.testing.assert_close(got.sum(1), torch.ones(len(want)))
    described = np.stack([kept_and_shared(row, kept) for row in want])
    np.testing.assert_allclose(got.numpy(), described, rtol=1e-6, atol=1e-7)
    # the error that is promised, for the classes that are kept
    best = np.argsort(-want, 1)[:, :kept]
    exact, read = (np.take_along_axis(each, best, 1) for each in (want, got.double().numpy()))
    assert (np.abs(read - exact) <= (1 / 510 + kept / 510 * exact) * 1.01 + 1 / 255).all()
    if kept < classes and kept * 0.5 < 255 * (1 - exact.sum(1)).min():  # nothing overflows
        assert (np.abs(read - exact)[:, 1:] <= 1 / 510 + 1e-6).all()


@pytest.mark.parametrize("kept", [1, 5, 999, 1000])
def test_a_thousand_equal_classes_are_still_a_label(kept):
    store = build_store(small(1000, kept, 1))
    store.soft_labels.keep(torch.arange(1000), torch.full((1000, 1000), 1e-3))
    rows = store.targets(torch.arange(3))
    torch.testing.assert_close(rows.sum(1), torch.ones(3))
    if kept < 999:
        assert rows.max() < 5e-3


@pytest.mark.parametrize("kept", [0, 1, 3, 4])
def test_labels_are_hard_until_they_are_set(kept):
    store = build_store(small(4, kept))
    assert torch.equal(store.targets(torch.arange(8)), torch.eye(4).repeat_interleave(2, 0))
    assert torch.equal(store.targets(torch.tensor([7, 0])), torch.eye(4)[[3, 0]])
    assert not [name for name in store.state_dict() if "soft" in name]  # as in older checkpoints


KINDS = [(3, 3, None), (3, 2, "U8"), (256, 4, "U8"), (257, 4, "U16"), (66_000, 2, "I32")]


@pytest.mark.parametrize(("classes", "kept", "kind"), KINDS)
@pytest.mark.parametrize("format", ["generator", "pixels"])
def test_in_the_file(tmp_path, format, classes, kept, kind):
    spec = small(classes, kept, 1, format)
    store = build_store(spec)
    rng = np.random.default_rng(0)
    index = torch.from_numpy(rng.choice(classes, min(classes, 50), replace=False))
    soft = torch.from_numpy(draw(rng, len(index), classes, 0.3))
    store.soft_labels.keep(index, soft)
    metadata = metadata_of(spec, made=1)
    size = artifact.save(tmp_path / "made", store, metadata)
    assert size == artifact.file_size(metadata) == os.path.getsize(tmp_path / "made")
    loaded = artifact.load(tmp_path / "made")
    assert torch.equal(loaded.store.targets(index), store.targets(index))
    assert loaded.metadata == metadata
    artifact.save(tmp_path / "again", loaded.store, loaded.metadata)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "made").read_bytes()
    with safe_open(tmp_path / "made", "pt") as file:
        values, largest = file.get_tensor("soft_values"), soft.topk(kept).values
        fields = json.loads(file.metadata()["gencond_fast"])
    want = (255 * largest).round().clamp_min(torch.eye(kept)[0])
    assert torch.equal(values[index].sort(1, descending=True).values, want.byte())
    header, _ = split_file((tmp_path / "made").read_bytes())
    assert header.get("soft_classes", {}).get("dtype") == kind
    assert (fields["version"], fields["store"]["soft_labels"]) == (2, kept)


def test_a_file_of_hard_labels_is_of_version_1(tmp_path):
    """Readers of that version know neither the field nor the tensors."""
    write_set(tmp_path / "made")
    header, _ = split_file((tmp_path / "made").read_bytes())
    fields = json.loads(header["__metadata__"]["gencond_fast"])
    assert fields["version"] == 1
    assert "soft_labels" not in fields["store"]
    assert set(header) == {"__metadata__", "codes", "decoder"}


@pytest.mark.parametrize(("classes", "kept", "ipc"), [(10, 4, 3), (10, 30, 20), (300, 5, 2)])
def test_labels_are_part_of_the_budget(classes, kept, ipc):
    def fill(soft: int) -> tuple[StoreSpec, int]:
        spec = budget.size_store(
            size,
            StoreConfig(format="generator", soft_labels=soft),
            num_classes=classes,
            channels=3,
            image_size=32,
            file_size=lambda spec: artifact.file_size(metadata_of(spec)),
        )
        return spec, artifact.file_size(metadata_of(spec))

    size = budget.ipc_to_bytes(ipc, classes, 3, 32)
    spec, weight = fill(kept)
    assert spec.soft_labels == min(kept, classes)
    assert weight <= size
    hard, _ = fill(0)
    bytes_of = {True: 1, False: 1 + (1 if classes <= 256 else 2)}[kept >= classes]
    each = 4 * 16 + min(kept, classes) * bytes_of  # a code and its label
    assert spec.per_class == pytest.approx(hard.per_class * 64 / each, rel=0.02, abs=2)


def spoil(values=None, classes=None):
    """A file of soft labels, of which something was changed before it was written and signed."""

    def write(path):
        spec = small(5, 3)
        store = build_store(spec)
        soft = store.soft_labels
        if values is not None:
            soft.values[4] = torch.tensor(values)
        if classes is not None:
            soft.classes[4] = torch.tensor(classes)
        artifact.save(path, store, metadata_of(spec))

    return write


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (spoil(values=[0, 0, 0]), "no probability above 0"),
        (spoil(classes=[0, 5, 1]), "names a class that is not there"),
        (spoil(classes=[0, 255, 1]), "names a class that is not there"),
        (spoil(classes=[1, 3, 1]), "names a class twice"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, write, words):
    write(tmp_path / "made")
    with pytest.raises(InputError, match=f"no usable condensed file .*{words}"):
        artifact.load(tmp_path / "made")


def test_negative_classes_are_refused(tmp_path):
    spec = small(66_000, 2, 1)
    store = build_store(spec)
    store.soft_labels.classes[9, 1] = -1
    artifact.save(tmp_path / "made", store, metadata_of(spec))
    with pytest.raises(InputError, match="names a class that is not there"):
        artifact.load(tmp_path / "made")


def test_more_labels_than_classes_are_refused():
    with pytest.raises(ValueError, match="soft_labels is larger than num_classes"):
        small(3, 4)


# where they are used


@pytest.fixture(scope="module")
def soft_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("soft") / "made"
    spec = spec_of(soft_labels=2)
    store = build_store(spec, seed=7)
    rows = draw(np.random.default_rng(0), 15, 3, 0.5)
    store.soft_labels.keep(torch.arange(15), torch.from_numpy(rows))
    artifact.save(path, store, metadata_of(spec, ("a", "b", "c")))
    return path, np.stack([kept_and_shared(row, 2) for row in rows])


@pytest.mark.parametrize("sampling", ["fixed", "fresh"])
def test_from_the_dataset(soft_file, sampling):
    path, want = soft_file
    data = gf.CondensedDataset(path, sampling=sampling, soft_labels=True)
    image, label = data[4]
    assert image.shape == (3, 12, 12)
    assert (label.dtype, label.shape) == (torch.float32, (3,))
    batches = list(torch.utils.data.DataLoader(data, batch_size=4))
    np.testing.assert_allclose(torch.cat([labels for _, labels in batches]), want, atol=1e-6)
    np.testing.assert_allclose(data[[-1, 0]][1], want[[14, 0]], atol=1e-6)
    hard = gf.CondensedDataset(path, sampling=sampling)
    assert hard[4][1] == 0
    assert type(hard[4][1]) is int
    np.testing.assert_allclose(hard.soft_targets([3, -1]), want[[3, 14]], atol=1e-6)


def test_the_dataset_of_a_hard_file_has_none(tmp_path):
    write_set(tmp_path / "made")
    with pytest.raises(InputError, match="made holds hard labels alone: add soft ones with"):
        gf.CondensedDataset(tmp_path / "made", soft_labels=True)
    assert gf.CondensedDataset(tmp_path / "made").soft_targets([0, 14]).tolist() == [
        [1, 0, 0],
        [0, 0, 1],
    ]


def test_exported_beside_the_images(soft_file, tmp_path):
    path, want = soft_file
    out = export(path, tmp_path, format="npz", per_class=4)
    rows = [i for i in range(15) if i % 5 < 4]
    with np.load(out) as data:
        assert data["soft_labels"].dtype == np.float32
        np.testing.assert_allclose(data["soft_labels"], want[rows], atol=1e-6)
        assert data["labels"].tolist() == [i // 5 for i in rows]
    assert open_source(str(out)).class_names == ("a", "b", "c")
