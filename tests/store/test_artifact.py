"""Files that are written: exact size, exact content, whole or not at all."""

from __future__ import annotations

import json
import os
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from store_builders import full_disk, metadata_of, spec_of, split_file, write_set

from gencond_fast.errors import InputError, RunError
from gencond_fast.store import artifact
from gencond_fast.store.stores import build_store
from gencond_fast.store.weights import coded_weights

NASTY = (
    '"',
    "a\nb\r\t",
    "\\",
    "",
    " ",
    "naïve",
    "日本語",
    "🦊🦊",
    "\x7f\x00",
    "caf\udce9",
    "\u2028",
)

specs = st.builds(
    lambda format, shape, sizes: spec_of(
        format, **shape, **(sizes if format == "generator" else {})
    ),
    st.sampled_from(["dct", "generator", "pixels"]),
    st.fixed_dictionaries(
        {
            "num_classes": st.integers(1, 12),
            "per_class": st.integers(1, 12),
            "channels": st.sampled_from([1, 3]),
            "image_size": st.sampled_from([12, 13, 30]),
        }
    ),
    st.fixed_dictionaries(
        {
            "width": st.integers(1, 20),
            "coefficients": st.integers(1, 36),
        }
    ),
)


def weigh_and_write(path, spec, names=None) -> tuple[int, int, int]:
    metadata = metadata_of(spec, names, options={"store.width": 8}, versions={"torch": "2.13"})
    said = artifact.save(path, build_store(spec), metadata)
    return artifact.file_size(metadata), said, os.path.getsize(path)


@given(spec=specs, names=st.lists(st.text(), min_size=12, max_size=12))
@settings(max_examples=40)
def test_size_is_known_beforehand(tmp_path_factory, spec, names):
    path = tmp_path_factory.mktemp("sizes") / "made"
    foreseen, said, weighed = weigh_and_write(path, spec, tuple(names[: spec.num_classes]))
    assert foreseen == said == weighed


def test_size_with_nasty_class_names(tmp_path):
    spec = spec_of(num_classes=len(NASTY))
    foreseen, said, weighed = weigh_and_write(tmp_path / "made", spec, NASTY)
    assert foreseen == said == weighed
    assert artifact.load(tmp_path / "made").metadata.class_names == NASTY


def test_size_with_a_thousand_classes(tmp_path):
    spec = spec_of(num_classes=1000, per_class=2)
    foreseen, said, weighed = weigh_and_write(tmp_path / "made", spec)
    assert foreseen == said == weighed
    assert artifact.load(tmp_path / "made").size == weighed


@pytest.mark.parametrize("format", ["dct", "generator", "pixels"])
def test_images_survive(tmp_path, format):
    store = write_set(tmp_path / "made", format)
    index = torch.arange(15)
    with torch.no_grad():
        before, after = store(index), artifact.load(tmp_path / "made").store(index)
    assert torch.equal(before, after)  # all is stored as it is decoded


@pytest.mark.parametrize("format", ["dct", "generator", "pixels"])
def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path, format):
    write_set(tmp_path / "one", format, names=("x", "日本", '"'))
    loaded = artifact.load(tmp_path / "one")
    artifact.save(tmp_path / "two", loaded.store, loaded.metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_metadata_survives(tmp_path):
    spec = spec_of(num_classes=2, per_class=1)
    made = {"options": {"seed": 3, "losses.intra": 0.1}, "data": "ab", "nested": [1, None, {}]}
    metadata = metadata_of(spec, ("cat", "dog"), **made)
    artifact.save(tmp_path / "made", build_store(spec), metadata)
    loaded = artifact.load(tmp_path / "made")
    assert loaded.metadata == metadata
    assert loaded.size == os.path.getsize(tmp_path / "made")


def test_the_file_is_plain_safetensors(tmp_path):
    store = write_set(tmp_path / "made", channels=1)
    with safe_open(tmp_path / "made", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["gencond_fast"])
    size, count = store.spec.stream_bytes, len(coded_weights(store))
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()} == {
        "stream": (torch.uint8, (size,)),
        "lengths": (torch.int32, (3,)),
        "odds": (torch.uint8, (2, count)),
        "check": (torch.uint8, (4,)),
        "zone": (torch.int32, (1,)),
        "colours": (torch.float32, (2,)),
        "steps": (torch.uint8, (16,)),
    }
    levels = store.codes.detach().round().to(torch.int16).numpy()
    assert tensors["check"].numpy().tobytes() == zlib.crc32(levels.tobytes()).to_bytes(4, "big")
    assert torch.equal(tensors["colours"], torch.cat((store.offset, store.colours.flatten())))
    assert torch.equal(tensors["zone"], store.zone)
    used = 4 * int(tensors["lengths"].sum())
    assert 0 < used <= size
    assert not tensors["stream"][used:].any()
    assert about["class_names"] == ["class 0", "class 1", "class 2"]
    assert (about["version"], about["store"]["per_class"]) == (4, 5)


def test_a_file_of_frequencies_is_plain_safetensors(tmp_path):
    store = write_set(tmp_path / "made", "dct")
    with safe_open(tmp_path / "made", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["gencond_fast"])
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()} == {
        "stream": (torch.uint8, (400,)),
        "odds": (torch.uint8, (2, 16)),
        "check": (torch.uint8, (4,)),
        "zone": (torch.int32, (3,)),
        "colours": (torch.float32, (13,)),
    }
    levels = store.codes.detach().round().to(torch.int16).numpy()
    assert tensors["check"].numpy().tobytes() == zlib.crc32(levels.tobytes()).to_bytes(4, "big")
    assert torch.equal(tensors["colours"][:1], store.step)
    assert torch.equal(tensors["colours"][1:4], store.offset)
    assert torch.equal(tensors["colours"][4:], store.colours.flatten())
    assert torch.equal(tensors["zone"], store.zone)
    # a reader of version 1 would not know what this is, and says so
    assert about["version"] == 2
    assert (about["store"]["coefficients"], about["store"]["stream_bytes"]) == (16, 400)


def test_files_of_pixels_are_as_version_1_had_them(tmp_path):
    write_set(tmp_path / "made", "pixels")
    header, _ = split_file((tmp_path / "made").read_bytes())
    about = json.loads(header["__metadata__"]["gencond_fast"])
    assert about["version"] == 1
    assert set(about["store"]) == {
        *("format", "num_classes", "per_class", "channels", "image_size"),
        *("width", "code_channels", "code_size"),
    }


def test_loaded_sets_are_for_decoding(tmp_path):
    write_set(tmp_path / "made")
    store = artifact.load(tmp_path / "made").store
    assert not store.training
    assert not store(torch.arange(2)).requires_grad


def test_a_run_directory_is_enough(tmp_path):
    write_set(tmp_path / artifact.FILE_NAME)
    assert artifact.FILE_NAME == "condensed.safetensors"
    of_run, of_file = artifact.load(tmp_path), artifact.load(str(tmp_path / artifact.FILE_NAME))
    assert of_run.metadata == of_file.metadata


@pytest.mark.parametrize("room", [0, 100, 1000])
def test_a_failed_write_leaves_the_old_file(tmp_path, room):
    path = tmp_path / "made"
    write_set(path)
    before = path.read_bytes()
    with full_disk(room), pytest.raises(OSError, match="too large"):
        write_set(path, per_class=9)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["made"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "made")
    assert os.listdir(tmp_path) == []


def test_what_no_reader_would_take_is_not_written(tmp_path):
    spec = spec_of()
    store = build_store(spec)
    with torch.no_grad():
        store.synthesis.last.bias.value[0] = float("nan")
    with pytest.raises(RunError, match="numbers that are not finite"):
        artifact.save(tmp_path / "made", store, metadata_of(spec))
    assert os.listdir(tmp_path) == []


def test_writing_to_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_set(tmp_path / "missing" / "made")


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": ("a", "b")},
        {"mean": (0.5,)},
        {"std": (0.5, 0.5, 0.0)},
        {"mean": (0.5, float("nan"), 0.5)},
        {"std": (0.5, 0.5, float("inf"))},
        {"budget": 0},
    ],
)
def test_metadata_is_checked_when_made(changes):
    plain = {name: getattr(metadata_of(spec_of()), name) for name in vars(metadata_of(spec_of()))}
    with pytest.raises(ValueError, match="|".join(changes) + "|class name|mean and std"):
        artifact.Metadata(**(plain | changes))


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "x", tmp_path / "x" / "y", ""):
        with pytest.raises(InputError, match="does not exist: condense first"):
            artifact.load(path)


def test_header_has_the_tensors_in_place(tmp_path):
    write_set(tmp_path / "made")
    header, data = split_file((tmp_path / "made").read_bytes())
    spans = sorted(v["data_offsets"] for k, v in header.items() if k != "__metadata__")
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == len(data)
