"""Budgets: amounts of bytes, and stored sets that fill them without ever going over."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from store_builders import metadata_of

from gencond_fast.config import StoreConfig
from gencond_fast.errors import InputError
from gencond_fast.store import artifact, budget
from gencond_fast.store.blocks import block_side
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from gencond_fast.system.bytes import format_bytes, parse_bytes

HEADER = 700  # bytes of a header, of about the usual size


def file_bytes(spec: StoreSpec) -> int:
    """What a file weighs: one byte a pixel.

    Of what is coded: the stream, and of each channel count, offset and axis. Of frequencies two
    bytes a column; of a generator one a band, and two a tensor of weights.
    """
    samples = spec.num_classes * spec.per_class
    header = HEADER + 15 * spec.num_classes
    if spec.format == "pixels":
        return header + samples * spec.channels * spec.code_size**2
    if spec.format == "dct":
        numbers = 1 + 2 * spec.channels + spec.channels**2
        return header + spec.stream_bytes + 2 * spec.coefficients + 4 + 4 * numbers
    numbers = 3 + 2 * spec.channels + spec.channels**2
    return header + spec.stream_bytes + spec.coefficients + 2 * 24 + 4 + 4 * numbers


def sized(size: int, options: StoreConfig, classes: int, channels: int, side: int) -> StoreSpec:
    return budget.size_store(
        size,
        options,
        num_classes=classes,
        channels=channels,
        image_size=side,
        file_size=file_bytes,
    )


def least(options: StoreConfig, *shape: int) -> int:
    """The bytes that the refusal of a hopeless budget asks for."""
    with pytest.raises(InputError) as refusal:
        sized(1, options, *shape)
    return int(re.search(r"which need (\d+) bytes", str(refusal.value))[1])


shapes = st.tuples(
    st.sampled_from([1, 2, 10, 43, 100, 1000]),
    st.sampled_from([1, 3]),
    st.sampled_from([8, 16, 28, 30, 32, 64, 96, 128, 224, 256]),
)
formats = st.sampled_from(["dct", "generator", "pixels"])


@given(format=formats, shape=shapes, ratio=st.floats(2.0, 300.0))
@settings(max_examples=8 * settings.default.max_examples)
def test_uses_four_fifths_and_never_more_than_all(format, shape, ratio):
    options = StoreConfig(format=format)
    size = int(least(options, *shape) * ratio)
    used = file_bytes(sized(size, options, *shape)) / size
    assert 0.8 <= used <= 1.0


@given(format=formats, shape=shapes, ratio=st.floats(1.0, 2.0))
def test_the_least_budget_is_enough(format, shape, ratio):
    options = StoreConfig(format=format)
    need = least(options, *shape)
    size = int(need * ratio)
    assert file_bytes(sized(size, options, *shape)) <= size
    with pytest.raises(InputError, match=f"which need {need} bytes"):
        sized(need - 1, options, *shape)


@given(
    per_class=st.none() | st.integers(1, 30),
    width=st.none() | st.sampled_from([5, 16, 33]),
    coefficients=st.none() | st.integers(1, 192),
    size=st.integers(3000, 400_000),
)
@settings(max_examples=3 * settings.default.max_examples)
def test_fixed_sizes_are_kept(per_class, width, coefficients, size):
    fixed = {"per_class": per_class, "width": width, "coefficients": coefficients}
    options = StoreConfig(format="generator", **fixed)
    assume(size >= least(options, 10, 3, 32))
    spec = sized(size, options, 10, 3, 32)
    assert size - 8 < file_bytes(spec) <= size
    assert all(getattr(spec, name) == value for name, value in fixed.items() if value is not None)


def test_bytes_of_a_sample_set_how_many_there_are():
    options = StoreConfig(format="generator", sample_bytes=100, width=8)
    spec = sized(200_000, options, 10, 3, 32)
    assert spec.stream_bytes / spec.samples == pytest.approx(100, rel=0.01)
    assert spec.per_class == pytest.approx(200, rel=0.01)
    few = budget.size_store(
        200_000,
        options,
        num_classes=10,
        channels=3,
        image_size=32,
        file_size=file_bytes,
        real=30,
    )
    assert few.per_class == 30


@given(shape=st.tuples(st.sampled_from([1, 10]), st.sampled_from([1, 3]), st.integers(4, 70)))
def test_any_side_has_its_blocks_and_bands(shape):
    spec = sized(100_000, StoreConfig(format="generator"), *shape)
    side = block_side(shape[2])
    assert spec.code_size == -(-shape[2] // side)
    assert spec.coefficients <= shape[1] * side**2


def test_pixels_keep_at_least_half_of_the_side():
    for size in (9000, 10_000, 20_000, 90_000):
        spec = sized(size, StoreConfig(format="pixels"), 10, 3, 32)
        assert 16 <= spec.code_size <= 32
        assert spec.code_channels == 3


def test_a_budget_beyond_the_most_samples_is_no_crash():
    options = StoreConfig(format="generator", width=8, sample_bytes=8.0)
    spec = sized(10**9, options, 1, 1, 8)
    assert spec.per_class == 1_000_000


def test_code_larger_than_the_image_is_refused():
    with pytest.raises(InputError, match=r"store.code_size' is 33, larger than the image side 32"):
        sized(10**6, StoreConfig(format="pixels", code_size=33), 10, 3, 32)


@pytest.mark.parametrize("format", ["dct", "generator", "pixels"])
@pytest.mark.parametrize("size", [9_000, 40_000])
def test_the_written_file_obeys_the_budget(tmp_path, format, size):
    spec = budget.size_store(
        size,
        StoreConfig(format=format),
        num_classes=4,
        channels=3,
        image_size=16,
        file_size=lambda spec: artifact.file_size(metadata_of(spec)),
    )
    path = tmp_path / "made"
    artifact.save(path, build_store(spec), metadata_of(spec))
    assert artifact.load(path).metadata.store == spec
    assert 0.8 * size <= path.stat().st_size <= size


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("40000", 40_000),
        ("40KB", 40_000),
        ("40k", 40_000),
        (" 1.5 MiB ", 3 * 2**19),
        ("2Ki", 2048),
        ("1G", 10**9),
        ("0.25gib", 2**28),
        ("1.9B", 1),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_amounts_of_bytes(text, amount):
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    "text", ["", "0", "0.4", "-5", "1e5", "ten", "5 T", "1.", "1 2", "nan", "9" * 400, "0x10"]
)
def test_no_amount_of_bytes(text):
    with pytest.raises(InputError, match=r"is no amount of bytes: write it like"):
        parse_bytes(text)


@given(amount=st.integers(1, 10**13))
def test_shown_bytes_are_close_and_short(amount):
    shown, unit = format_bytes(amount).split()
    size = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
    assert float(shown) * size == pytest.approx(amount, rel=6e-3)
    assert unit == "GB" or len(shown) <= 4


def test_shown_bytes_take_the_next_unit():
    shown = [format_bytes(n) for n in (999, 1000, 122_880, 999_999, 1_000_000, 10**9 - 1)]
    assert shown == ["999 bytes", "1 kB", "123 kB", "1 MB", "1 MB", "1 GB"]


@given(ipc=st.integers(1, 1000), shape=shapes)
def test_ipc_is_float32_pixels(ipc, shape):
    classes, channels, side = shape
    size = budget.ipc_to_bytes(ipc, *shape)
    assert size * 8 == ipc * classes * channels * side * side * 32
    assert budget.bytes_to_ipc(size, *shape) == ipc
    assert budget.bits_per_class(size, classes) == ipc * channels * side * side * 32


def test_ipc_one_of_cifar10_is_the_published_number():
    assert budget.ipc_to_bytes(1, 10, 3, 32) == 122_880
