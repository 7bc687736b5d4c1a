"""Files from strangers: one sentence of refusal, nothing executed, nothing big allocated."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import struct
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from store_builders import join_file, split_file, write_set

from gencond_fast.errors import InputError
from gencond_fast.store import artifact


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("hostile") / "made"
    write_set(path, names=("café", "b", "c"))
    return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "file.safetensors"


def refusal(path, content: bytes) -> str:
    """The message of the one InputError that loading must raise."""
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        artifact.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300
    return message


def with_fields(content: bytes, change, *, sign: bool = True) -> bytes:
    """The file with other metadata, its checksum made right again if `sign`."""
    header, data = split_file(content)
    fields = json.loads(header["__metadata__"]["gencond_fast"])
    fields.pop("checksum")
    fields = change(fields) or fields
    if sign:
        text = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
        spans = [header[name]["data_offsets"] for name in sorted({*header} - {"__metadata__"})]
        digest = hashlib.sha256(text + b"".join(data[a:b] for a, b in spans))
        fields["checksum"] = digest.hexdigest()[:16]
    header["__metadata__"]["gencond_fast"] = json.dumps(fields)
    return join_file(header, data)


def test_the_signature_of_these_tests_is_right(whole, place):
    place.write_bytes(with_fields(whole, lambda f: f.update(budget=99)))
    assert artifact.load(place).metadata.budget == 99


def test_cut_anywhere(whole, place):
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    data = len(whole) - header
    ends = {*range(17), header // 2, header - 1, header, header + 1, header + data // 2}
    for end in sorted(ends | {len(whole) - 1}):
        assert "no usable condensed file" in refusal(place, whole[:end])


def test_bytes_after_the_end(whole, place):
    refusal(place, whole + b"\0")


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=10 * settings.default.max_examples)
def test_one_flipped_bit(whole, place, where, bit):
    spoiled = bytearray(whole)
    spoiled[int(where * len(whole))] ^= 1 << bit
    place.write_bytes(spoiled)
    try:
        read = artifact.load(place)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    # some flips change the spelling only, such as the case of the digits of an escape
    place.write_bytes(whole)
    true = artifact.load(place)
    assert read.metadata == true.metadata
    for name, tensor in true.store.to_storage().items():
        assert torch.equal(read.store.to_storage()[name], tensor)


@given(content=st.binary(max_size=200))
def test_noise(place, content):
    refusal(place, content)


@given(text=st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_other_json(place, text):
    refusal(place, join_file(json.dumps(text).encode(), b""))


CHANGES = {
    "negative samples": lambda f: f["store"].update(per_class=-1),
    "no classes": lambda f: f["store"].update(num_classes=0),
    "huge counts": lambda f: f["store"].update(per_class=10**18),
    "most samples": lambda f: f["store"].update(per_class=10**6),
    "huge stream": lambda f: f["store"].update(stream_bytes=2**40),
    "hundred samples": lambda f: f["store"].update(per_class=100),
    "one block": lambda f: f["store"].update(code_size=1),
    "huge code": lambda f: f["store"].update(code_size=4096),
    "huge width": lambda f: f["store"].update(width=4096),
    "wide everything": lambda f: f["store"].update(
        width=4096, coefficients=192, code_size=128, image_size=1024, stream_bytes=2**40
    ),
    "huge image": lambda f: f["store"].update(image_size=10**9),
    "code over the image": lambda f: f["store"].update(image_size=4, code_size=5),
    "two channels": lambda f: f["store"].update(channels=2),
    "gray": lambda f: f["store"].update(channels=1),
    "other format": lambda f: f["store"].update(format="pixels"),
    "unknown format": lambda f: f["store"].update(format="__import__"),
    "unknown size": lambda f: f["store"].update({"new\nline \x1b[31m": 1}),
    "missing size": lambda f: f["store"].pop("width"),
    "fraction": lambda f: f["store"].update(width=8.5),
    "store is a list": lambda f: f.update(store=[]),
    "no store": lambda f: f.pop("store"),
    "no names": lambda f: f.pop("class_names"),
    "too few names": lambda f: f.update(class_names=["a"]),
    "names are numbers": lambda f: f.update(class_names=[1, 2, 3]),
    "NaN mean": lambda f: f.update(mean=[float("nan")] * 3),
    "infinite mean": lambda f: f.update(mean=[float("inf")] * 3),
    "NaN deviation": lambda f: f.update(std=[float("nan")] * 3),
    "negative deviation": lambda f: f.update(std=[-0.1] * 3),
    "short mean": lambda f: f.update(mean=[0.5]),
    "no version": lambda f: f.pop("version"),
    "version 0": lambda f: f.update(version=0),
    "version in words": lambda f: f.update(version="one"),
    "version as text": lambda f: f.update(version="7"),
    "negative budget": lambda f: f.update(budget=-5),
    "a list": lambda f: [f],
    "a text": lambda f: "fields",
    "nothing": lambda f: {"x": 1},
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_metadata(whole, place, name):
    sign = name not in ("a list", "a text")
    change = CHANGES[name]
    try:
        content = with_fields(whole, change, sign=sign)
    except (AttributeError, TypeError):  # no object, hence no place for a checksum
        header, data = split_file(whole)
        fields = json.loads(header["__metadata__"]["gencond_fast"])
        header["__metadata__"]["gencond_fast"] = json.dumps(change(fields))
        content = join_file(header, data)
    assert "no usable condensed file" in refusal(place, content)


def test_changed_metadata_without_the_checksum(whole, place):
    content = with_fields(whole, lambda f: f.update(mean=[0.1] * 3), sign=False)
    assert "checksum" in refusal(place, content)


def test_later_version_says_upgrade(whole, place):
    content = with_fields(
        whole, lambda f: {"version": artifact.FORMAT_VERSION + 1, "everything": "else"}, sign=False
    )
    assert f"format version {artifact.FORMAT_VERSION + 1}" in (message := refusal(place, content))
    assert "upgrade gencond-fast" in message


def test_unknown_entries_of_a_later_minor_writer_are_ignored(whole, place):
    header, data = split_file(whole)
    fields = json.loads(header["__metadata__"]["gencond_fast"])
    header["__metadata__"]["gencond_fast"] = json.dumps(fields | {"comment": "new"})
    place.write_bytes(join_file(header, data))
    assert artifact.load(place).metadata.class_names == ("café", "b", "c")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_decoder_of_an_earlier_version_is_refused_by_name(place, version):
    sizes = {"num_classes": 1, "per_class": 1, "channels": 3, "image_size": 12, "width": 8}
    store = sizes | {"format": "generator", "code_channels": 2, "code_size": 3}
    if version > 1:
        store |= {"soft_labels": 1, "coefficients": 0, "stream_bytes": 0}
    if version > 2:
        store |= {"label_bytes": 4}
    fields = {"version": version, "store": store, "class_names": ["a"], "budget": 9, "made": {}}
    header = {
        "__metadata__": {"gencond_fast": json.dumps(fields | {"mean": [0.5] * 3, "std": [1] * 3})},
        "codes": {"dtype": "I8", "shape": [1, 2, 3, 3], "data_offsets": [0, 18]},
        "decoder": {"dtype": "F16", "shape": [5], "data_offsets": [18, 28]},
    }
    message = refusal(place, join_file(header, bytes(28)))
    assert message == (
        f"{place} holds a decoder of an earlier gencond-fast, which this version does not read any "
        "more: condense again"
    )


HEADERS = {
    "other program": lambda h: h.update(__metadata__={"format": "pt"}),
    "no metadata": lambda h: h.pop("__metadata__"),
    "metadata is a list": lambda h: h.update(__metadata__=[1]),
    "metadata not text": lambda h: h["__metadata__"].update(gencond_fast={"version": 1}),
    "metadata not JSON": lambda h: h["__metadata__"].update(gencond_fast="{'version': 1}"),
    "metadata cut": lambda h: h["__metadata__"].update(gencond_fast='{"version": 1'),
    "metadata deep": lambda h: h["__metadata__"].update(gencond_fast="[" * 200_000),
    "metadata long number": lambda h: h["__metadata__"].update(gencond_fast="9" * 10_000),
    "huge shape": lambda h: h["stream"].update(shape=[2**62, 2**62]),
    "negative shape": lambda h: h["stream"].update(shape=[-6000]),
    "flat shape": lambda h: h["stream"].update(shape=[2, 10]),
    "other type": lambda h: h["stream"].update(dtype="I8"),
    "unknown type": lambda h: h["stream"].update(dtype="PICKLE\n\x1b[2J"),
    "half type": lambda h: h["colours"].update(dtype="BF16"),
    "offsets overlap": lambda h: h["stream"].update(data_offsets=[0, 270]),
    "offsets outside": lambda h: h["stream"].update(data_offsets=[2**40, 2**40 + 270]),
    "offsets turned round": lambda h: h["stream"].update(
        data_offsets=h["stream"]["data_offsets"][::-1]
    ),
    "missing tensor": lambda h: h.pop("stream"),
    "extra tensor": lambda h: h.update(
        extra={"dtype": "U8", "shape": [0], "data_offsets": h["stream"]["data_offsets"][1:] * 2}
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_wrong_header(whole, place, name):
    header, data = split_file(whole)
    HEADERS[name](header)
    assert "no usable condensed file" in refusal(place, join_file(header, data))


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**40, 2**63, 2**64 - 1])
def test_stated_header_length(whole, place, length):
    refusal(place, struct.pack("<Q", length) + whole[8:])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_colours_that_are_no_numbers(whole, place, number):
    header, data = split_file(whole)
    start, _ = header["colours"]["data_offsets"]
    data = data[:start] + struct.pack("<f", number) + data[start + 4 :]
    content = with_fields(join_file(header, data), lambda f: None)
    assert "not finite" in refusal(place, content)


class _Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("write", [pickle.dumps, lambda trap: b"PK\x03\x04" + pickle.dumps(trap)])
def test_a_pickle_is_not_executed(place, write):
    refusal(place, write(_Trap()))


def test_nothing_big_is_allocated(whole, place):
    """Files that promise terabytes, in no more memory than a small one takes."""
    contents = [with_fields(whole, CHANGES[n]) for n in CHANGES if "huge" in n or "wide" in n]
    header, data = split_file(whole)
    HEADERS["huge shape"](header)
    contents += [join_file(header, data), struct.pack("<Q", 2**40) + whole[8:]]
    refusal(place, contents[0])  # imports what refusing needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    for content in contents:
        refusal(place, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes
    assert peak < 8e6
    assert grown < 64_000
