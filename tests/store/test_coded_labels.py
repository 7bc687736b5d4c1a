"""Coded soft labels: what they stand for, how they fit into bytes, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from store_builders import metadata_of, spec_of, split_file

from gencond_fast.config import StoreConfig
from gencond_fast.errors import InputError
from gencond_fast.store import artifact, budget, label_coder, soft_labels
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store


def drawn(seed: int, classes: int, per_class: int, own: float = 0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    soft = rng.dirichlet([0.3] * classes, classes * per_class)
    return own * np.repeat(np.eye(classes), per_class, 0) + (1 - own) * soft


def made(classes=10, kept=4, per_class=30, room=0, seed=0, own=0.6):
    """A stored set whose labels are coded, and the probabilities that it was given."""
    sizes = {"num_classes": classes, "per_class": per_class, "channels": 1}
    spec = spec_of("pixels", **sizes, image_size=4, code_size=4, soft_labels=kept)
    store = build_store(replace(spec, label_bytes=room), seed=1)
    want = drawn(seed, classes, per_class, own)
    store.soft_labels.keep(torch.arange(spec.samples), torch.from_numpy(want))
    store.compress_labels()
    return store, want


def described(row: np.ndarray, kept: int, scale: int) -> np.ndarray:
    """What a coded label stands for, one class at a time."""
    order = sorted(range(len(row)), key=lambda c: -row[c])[:kept]
    fine = [int(np.floor(255 * row[c] + 0.5)) if c in order else 0 for c in range(len(row))]
    fine[order[0]] = max(fine[order[0]], 1)
    whole = max(255, sum(fine))
    coarse = [int(2 * scale * each + whole) // (2 * whole) for each in fine]
    ups = [c for c in range(len(row)) if coarse[c] * whole > scale * fine[c]]
    for c in sorted(ups, key=lambda c: scale * fine[c] % whole)[: max(0, sum(coarse) - scale)]:
        coarse[c] -= 1
    coarse[order[0]] += not any(coarse)
    rest, others = max(0, scale - sum(coarse)), coarse.count(0)
    label = [each or (rest / others) for each in coarse]
    return np.array(label) / sum(label)


def targets(store) -> np.ndarray:
    return store.targets(torch.arange(store.spec.samples)).double().numpy()


def scale_of(store) -> int:
    return int(store.to_storage()["soft_check"][0])


@given(
    classes=st.sampled_from([3, 10, 17]),
    kept=st.integers(1, 17),
    each=st.sampled_from([None, 0.7, 1.5, 3.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_labels_are_those_of_the_description(classes, kept, each, seed):
    kept = min(kept, classes)
    room = 4 * int(classes * 40 * each / 4) if each else 0
    store, want = made(classes, kept, 40, room, seed)
    spec = store.spec
    assume(spec.label_bytes)
    assert spec.label_bytes % 4 == 0
    assert room == 0 or spec.label_bytes <= room
    scale = scale_of(store)
    assert scale == 255 or room
    rows = np.stack([described(row, kept, scale) for row in want])
    np.testing.assert_allclose(targets(store), rows, rtol=1e-5, atol=1e-7)
    if kept == classes and scale > 1:  # nothing is spread that was known better
        error = np.abs(targets(store) - want)
        assert (error <= 1 / scale + (1 + classes * want) / 255).all()


def test_more_bytes_give_finer_labels():
    found = []
    for each in (1.0, 1.5, 2.0, 3.0, 5.0):
        store, want = made(room=4 * int(300 * each / 4), seed=5)
        found.append((scale_of(store), np.abs(targets(store) - want).mean()))
    scales, errors = zip(*found, strict=True)
    assert list(scales) == sorted(scales)
    assert scales[0] < 32 < scales[-1]
    assert list(errors) == sorted(errors, reverse=True)


def test_the_finest_steps_that_fit_are_taken():
    whole, _ = made(own=0.9)
    fits, _ = made(own=0.9, room=whole.spec.label_bytes)
    assert scale_of(whole) == scale_of(fits) == 255
    assert np.array_equal(targets(whole), targets(fits))
    tight, _ = made(own=0.9, room=whole.spec.label_bytes - 4)
    assert scale_of(tight) == 192


def test_labels_for_which_there_is_no_room_are_hard():
    store, want = made(own=0.0, kept=10, room=48)  # a label of any step says another class
    assert scale_of(store) == 0
    assert np.array_equal(targets(store), np.repeat(np.eye(10), 30, 0))
    assert "hard for want of room" in store.soft_labels.describe()
    assert (want.argmax(1) != np.repeat(np.arange(10), 30)).mean() > 0.5


def test_labels_are_plain_where_that_is_smaller(tmp_path):
    store, _ = made(classes=2, kept=2, per_class=20)
    assert store.spec.label_bytes == 0
    assert set(store.soft_labels.to_storage()) == {"soft_values"}
    assert store.soft_labels.describe() == "soft labels: 80 bytes, not coded"
    assert written(tmp_path / "made", store)["version"] == 2


def test_labels_of_too_many_classes_are_plain(monkeypatch):
    monkeypatch.setattr(soft_labels, "MOST_CODED", 2999)
    store, _ = made()
    assert store.spec.label_bytes == 0


def written(path, store) -> dict:
    size = artifact.save(path, store, metadata_of(store.spec))
    assert size == os.path.getsize(path) == artifact.file_size(metadata_of(store.spec))
    header, _ = split_file(path.read_bytes())
    return json.loads(header["__metadata__"]["gencond_fast"])


@pytest.mark.parametrize(("kept", "room"), [(4, 0), (10, 0), (4, 400), (1, 120), (10, 48)])
def test_in_the_file(tmp_path, kept, room):
    store, _ = made(kept=kept, room=room, own=0.6 if room != 48 else 0.0)
    fields = written(tmp_path / "made", store)
    assert (fields["version"], fields["store"]["label_bytes"]) == (3, store.spec.label_bytes)
    tensors = load_file(tmp_path / "made")
    assert set(tensors) == {"images", "soft_stream", "soft_check"}
    assert tensors["soft_stream"].shape == (store.spec.label_bytes,)
    # a fair count: coded bytes, their header and all
    plain = build_store(replace(store.spec, label_bytes=0), seed=1)
    artifact.save(tmp_path / "plain", plain, metadata_of(plain.spec))
    saved = os.path.getsize(tmp_path / "plain") - os.path.getsize(tmp_path / "made")
    assert saved > 0
    loaded = artifact.load(tmp_path / "made")
    assert loaded.metadata == metadata_of(store.spec)
    assert np.array_equal(targets(loaded.store), targets(store))
    artifact.save(tmp_path / "again", loaded.store, loaded.metadata)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "made").read_bytes()


# of a program that knew of version 2 alone: compressed, base 85
OLD = (
    b"c-oawu}&L75Va{H=L=|~i4+NCA@=#sTwKs0S&HP2BJx?Qxw~2WgzwI}T@xJZ6pAPvWj-MJfE2FM&{0Jc`~ejO1vK"
    b";#yL$#H0!3n)y?Hb5y_vb*TFu4+I8RAoj0!o2?gB=XMR^u;fl@&i76F8_ctk3I?t2|9fM`t7zMQ2R3BdJQ!in0R2"
    b"t{YxM?V15F+nMLhABziGzb7K99G2uhWbe{CS6>V=9@4xjm<63l%$HQ%&D@xu${&kvy3K2v}Kg?nD|qeOg<ZiYjYA"
    b"Ji4w|`X=!Rm<VA|gPCrc!EmfmQilcv+*(~LD5xYcNBU36WWaTAuq4)&D%H6TE7KAAe=Zfy#J|(dl8-"
    b"iK%fC`!9W>=?#l2xYCoIO_aDd~If`M^Mq(IkU5YcZF(Lk9N$<U&YN(wv65{!sJn1gjzcqvAYPaDC>v4-"
    b"yABnLSs*b6KZ3EX!9WzMQT@|7UrretZ-!-hTMHJlp8~x}uBy<J*_-"
    b"c>iW|_f5mQ{(bUo=X>Mz&iS8Oy<V%YE!%%<N8%2cSk&M"
)


def test_a_file_of_plain_labels_is_read_as_before(tmp_path):
    (tmp_path / "made").write_bytes(zlib.decompress(base64.b85decode(OLD)))
    old = artifact.load(tmp_path / "made")
    # with two of three kept, a class that was kept at zero stays there
    want = torch.tensor([[178, 51, 26], [0, 254, 1], [25, 128, 102]]) / 255
    torch.testing.assert_close(old.store.targets(torch.arange(3)), want)
    artifact.save(tmp_path / "again", old.store, old.metadata)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "made").read_bytes()


class Spoiled:
    """A stored set of which something is changed before it is written and signed."""

    def __init__(self, change) -> None:
        self._store, _ = made()
        self.spec, self._change = self._store.spec, change

    def state_dict(self):
        return {}

    def to_storage(self):
        tensors = self._store.to_storage()
        return tensors | self._change({name: each.clone() for name, each in tensors.items()})


def with_byte(name, place, value):
    def change(tensors):
        tensors[name][place] = value
        return tensors

    return change


def levels_of(kept_of_first: int):
    """Sound codes of labels of which the first has another number of probabilities."""

    def change(tensors):
        levels = np.zeros((10, 30, 10), np.uint8)
        levels[..., 0] = 9
        levels[0, 0] = np.arange(10) < kept_of_first
        stream = label_coder.encode(levels, 255).ljust(len(tensors["soft_stream"]), b"\0")
        check = b"\xff" + zlib.crc32(levels.astype("<i2").tobytes()).to_bytes(4, "big")
        contents = {"soft_stream": stream, "soft_check": check}
        return {name: torch.tensor(list(each)).byte() for name, each in contents.items()}

    return change


SPOILED = {
    "a byte of the stream": (with_byte("soft_stream", 40, 0x55), "soft labels? "),
    "no stream": (with_byte("soft_stream", slice(None), 0), "soft labels? "),
    "wrong check": (with_byte("soft_check", 3, 7), "do not come out as they were put in"),
    "another scale": (with_byte("soft_check", 0, 254), "soft labels? "),
    "a scale of zero": (with_byte("soft_check", 0, 0), "do not come out as they were put in"),
    "no probability": (levels_of(0), "no probability above 0"),
    "too many": (levels_of(5), "more probabilities than it states"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_damaged_labels_are_refused(tmp_path, name):
    change, words = SPOILED[name]
    store = Spoiled(change)
    artifact.save(tmp_path / "made", store, metadata_of(store.spec))
    with pytest.raises(InputError, match=f"no usable condensed file .*{words}"):
        artifact.load(tmp_path / "made")


def test_what_is_not_spoiled_is_read(tmp_path):
    for name, change in (("whole", lambda tensors: {}), ("four", levels_of(4))):
        store = Spoiled(change)
        artifact.save(tmp_path / name, store, metadata_of(store.spec))
        artifact.load(tmp_path / name)


def sizes(**changes) -> StoreSpec:
    size = {"num_classes": 10, "per_class": 30, "soft_labels": 4, "label_bytes": 400}
    return spec_of("pixels", **(size | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label_bytes": 402}, "whole number of words"),
        ({"soft_labels": 0}, "whole number of words of soft labels"),
        ({"per_class": 641}, "too many soft labels in a byte"),
        ({"per_class": 10**6}, "too many soft labels in a byte"),
        ({"num_classes": 10**6, "per_class": 1}, "too many soft labels in a byte"),
        ({"num_classes": 100, "per_class": 11}, "too many soft labels in a byte"),
        ({"label_bytes": -400}, "greater than or equal to 0"),
    ],
)
def test_sizes_that_would_unfold_to_anything_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        sizes(**changes)


def test_more_labels_than_are_ever_coded_are_refused(tmp_path, monkeypatch):
    store, _ = made()
    artifact.save(tmp_path / "made", store, metadata_of(store.spec))
    monkeypatch.setattr(soft_labels, "MOST_CODED", 2999)
    with pytest.raises(InputError, match="more soft labels than are ever coded"):
        artifact.load(tmp_path / "made")


# budgets


@pytest.mark.parametrize("format", ["dct", "generator", "pixels"])
@pytest.mark.parametrize(("classes", "each"), [(10, 1.3), (10, 4.0), (100, 2.0)])
def test_bytes_of_labels_are_part_of_the_budget(format, classes, each):
    def fill(**options) -> StoreSpec:
        return budget.size_store(
            400_000,
            StoreConfig(format=format, **options),
            num_classes=classes,
            channels=3,
            image_size=32,
            file_size=lambda spec: artifact.file_size(metadata_of(spec)),
        )

    spec = fill(soft_labels=5, label_bytes=each)
    size = artifact.file_size(metadata_of(spec))
    assert 0.75 * 400_000 <= size <= 400_000
    assert each * spec.samples <= spec.label_bytes < each * spec.samples + 4
    plain, hard = fill(soft_labels=5), fill()
    assert plain.label_bytes == hard.label_bytes == 0
    if format == "dct":
        assert plain.per_class < spec.per_class < hard.per_class


def test_bytes_of_labels_of_too_many_classes_are_refused_before_any_work():
    with pytest.raises(InputError, match=r"store\.label_bytes codes soft labels, up to 16,777,216"):
        budget.size_store(
            10**9,
            StoreConfig(format="pixels", soft_labels=5, label_bytes=2.0, per_class=17),
            num_classes=1000,
            channels=3,
            image_size=32,
            file_size=lambda spec: artifact.file_size(metadata_of(spec)),
        )


def test_bytes_of_labels_without_labels_are_refused():
    with pytest.raises(ValueError, match="label_bytes is for soft labels"):
        StoreConfig(label_bytes=2.0)
