"""Files of frequencies from strangers: one sentence of refusal, and no more memory than is fair."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from store_builders import join_file, metadata_of, spec_of, split_file

from gencond_fast.errors import InputError
from gencond_fast.store import artifact
from gencond_fast.store.dct import FrequencySet

SPEC = spec_of("dct", coefficients=200, stream_bytes=1600)


class Spoiled:
    """A stored set of which something is changed before it is written and signed."""

    def __init__(self, change, spec=SPEC) -> None:
        self._store = FrequencySet(spec, seed=1)
        self._change = change

    def state_dict(self):
        return {}

    def to_storage(self):
        tensors = self._store.to_storage()
        return tensors | self._change(tensors)


def refusal(path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        artifact.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is no usable condensed file (")
    assert message.endswith("): fetch or condense it again")
    assert message.isprintable()
    return message


def written(path, change, spec=SPEC) -> bytes:
    artifact.save(path, Spoiled(change, spec), metadata_of(spec))
    return path.read_bytes()


def numbers(name, *values, type=torch.int32):
    return lambda tensors: {name: torch.tensor(values, dtype=type)}


def with_byte(name, place, flip):
    def change(tensors):
        content = tensors[name].clone().flatten()
        content[place] ^= flip
        return {name: content.view(tensors[name].shape)}

    return change


def colours(place, value):
    def change(tensors):
        content = tensors["colours"].clone()
        content[place] = value
        return {"colours": content}

    return change


SPOILED = {
    "negative zone": (numbers("zone", 201, -1, 0), "frequencies are not as many"),
    "zone of too few": (numbers("zone", 67, 67, 65), "frequencies are not as many"),
    "zone of too many": (numbers("zone", 67, 67, 67), "frequencies are not as many"),
    "empty zone": (numbers("zone", 0, 0, 0), "frequencies are not as many"),
    "zone of more than an image has": (numbers("zone", 200, 0, 0), "cannot be kept of 12 x 12"),
    "zone that overflows": (
        numbers("zone", 2**31 - 1, 2**31 - 1, 202),
        "frequencies are not as many",
    ),
    "huge zone made good": (numbers("zone", 2**31 - 1, -(2**31) + 1, 200), "not as many"),
    "first byte flipped": (with_byte("stream", 3, 128), "its codes"),
    "a byte flipped": (with_byte("stream", 200, 1), "its codes"),
    "wrong check": (with_byte("check", 0, 1), "its codes do not come out"),
    "wrong odds": (with_byte("odds", 100, 64), "its codes"),
    "no stream": (lambda tensors: {"stream": torch.zeros_like(tensors["stream"])}, "its codes"),
    "endless step": (colours(0, 1e30), "its colours are out of bounds"),
    "endless axis": (colours(7, -1e30), "its colours are out of bounds"),
}


def test_a_set_that_is_not_spoiled_is_read(tmp_path):
    written(tmp_path / "made", lambda tensors: {})
    artifact.load(tmp_path / "made")


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_tensors(tmp_path, name):
    change, words = SPOILED[name]
    written(tmp_path / "made", change)
    assert words in refusal(tmp_path / "made")


def test_steps_and_colours_within_bounds_give_images(tmp_path):
    for place in (0, 2, 7):
        written(tmp_path / "made", colours(place, 1e6))
        with torch.no_grad():
            images = artifact.load(tmp_path / "made").store(torch.arange(15))
        assert images.isfinite().all()
        assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_colours_that_are_no_numbers(tmp_path, number):
    content = written(tmp_path / "made", lambda tensors: {})
    header, data = split_file(content)
    start, _ = header["colours"]["data_offsets"]
    data = data[:start] + np.float32(number).tobytes() + data[start + 4 :]
    assert "not finite" in refusal(tmp_path / "made", signed(join_file(header, data)))


def test_every_flipped_byte_of_the_stream_is_noticed(tmp_path):
    content = written(tmp_path / "made", lambda tensors: {})
    header, data = split_file(content)
    start, _ = header["stream"]["data_offsets"]
    used = len(data[start:].rstrip(b"\0")) - 4  # of the last word nothing may be left to read
    for place in range(0, used, 37):
        spoiled = bytearray(data)
        spoiled[start + place] ^= 0x55
        refusal(tmp_path / "made", signed(join_file(header, bytes(spoiled))))


def signed(content: bytes, **changes) -> bytes:
    """The file with other sizes, its checksum made right again."""
    header, data = split_file(content)
    fields = json.loads(header["__metadata__"]["gencond_fast"])
    fields.pop("checksum")
    fields["store"].update(changes)
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
    spans = [header[n]["data_offsets"] for n in sorted(header) if n != "__metadata__"]
    digest = hashlib.sha256(text + b"".join(data[a:b] for a, b in spans))
    fields["checksum"] = digest.hexdigest()[:16]
    header["__metadata__"]["gencond_fast"] = json.dumps(fields)
    return join_file(header, data)


SIZES = {
    "no coefficients": {"coefficients": 0},
    "negative coefficients": {"coefficients": -200},
    "more than an image has": {"coefficients": 433},
    "more than any has": {"coefficients": 10**9},
    "half a word": {"stream_bytes": 1602},
    "huge stream": {"stream_bytes": 2**40},
    "huger stream": {"stream_bytes": 2**60},
    "no stream": {"stream_bytes": 0},
    "too many samples": {"per_class": 200},
    "huge samples": {"per_class": 10**6},
    "huge samples and stream": {"per_class": 10**6, "stream_bytes": 2**40},
    "huge classes": {"num_classes": 10**6},
    "huge image": {"image_size": 1024, "coefficients": 3 * 2**20, "stream_bytes": 2**40},
    "another format": {"format": "pixels"},
    "words": {"coefficients": "many"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    return written(tmp_path_factory.mktemp("whole") / "made", lambda tensors: {})


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_do_not_fit(whole, tmp_path, name):
    refusal(tmp_path / "made", signed(whole, **SIZES[name]))


def test_the_signature_of_these_tests_is_right(whole, tmp_path):
    (tmp_path / "made").write_bytes(signed(whole))
    artifact.load(tmp_path / "made")


def test_fewer_samples_than_the_stream_holds_are_noticed(whole, tmp_path):
    assert "do not come out" in refusal(tmp_path / "made", signed(whole, per_class=4))


def growth(use) -> tuple[int, int]:
    """Bytes that Python and numpy held at once, and by which the process grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    use()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_nothing_big_is_allocated_for_what_is_refused(whole, tmp_path):
    refusal(tmp_path / "made", signed(whole, stream_bytes=1604))  # imports what refusing needs

    def refuse_all() -> None:
        for sizes in SIZES.values():
            refusal(tmp_path / "made", signed(whole, **sizes))

    peak, grown = growth(refuse_all)
    assert peak < 8e6
    assert grown < 64e6


def test_the_most_that_a_file_can_unfold_to_is_bounded(tmp_path):
    """64 levels a byte of the stream, and all of them zero."""
    sizes = {"num_classes": 100, "per_class": 1000, "coefficients": 128}
    spec = spec_of("dct", **sizes, stream_bytes=200_000)
    store = FrequencySet(spec)
    with torch.no_grad():
        store.codes.zero_()
    artifact.save(tmp_path / "made", store, metadata_of(spec))
    del store
    size = (tmp_path / "made").stat().st_size
    found = []
    peak, grown = growth(lambda: found.append(artifact.load(tmp_path / "made")))
    assert not found[0].store.codes.any()
    assert peak < 300 * size
    assert grown < 1000 * size


def test_without_the_decoder_it_is_said_what_to_install(whole, tmp_path, monkeypatch):
    (tmp_path / "made").write_bytes(whole)
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(InputError, match="needs the package constriction, which is not installed"):
        artifact.load(tmp_path / "made")
