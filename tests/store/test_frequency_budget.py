"""Budgets of entropy-coded frequencies, by the exact size of the file."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_builders import metadata_of, spec_of

from gencond_fast.config import StoreConfig
from gencond_fast.errors import InputError
from gencond_fast.store import artifact
from gencond_fast.store.budget import ipc_to_bytes, size_store
from gencond_fast.store.spec import MOST_LEVELS, StoreSpec
from gencond_fast.store.stores import storage_layout

shapes = st.tuples(
    st.sampled_from([1, 2, 10, 43, 300]),
    st.sampled_from([1, 3]),
    st.sampled_from([4, 8, 28, 33, 64, 224]),
)
labels = st.sampled_from([0, 0, 3])


def file_size(spec: StoreSpec) -> int:
    """Bytes of the file by the layout that docs/reference/format.md describes."""
    channels, samples = spec.channels, spec.num_classes * spec.per_class
    tensors = {
        "colours": ("F32", [1 + channels + channels**2], 4),
        "zone": ("I32", [channels], 4),
        "check": ("U8", [4], 1),
        "odds": ("U8", [2, spec.coefficients], 1),
        "stream": ("U8", [spec.stream_bytes], 1),
    }
    if spec.soft_labels:
        tensors["soft_values"] = ("U8", [samples, spec.soft_labels], 1)
    if 0 < spec.soft_labels < spec.num_classes:
        kind, width = ("U8", 1) if spec.num_classes <= 256 else ("U16", 2)
        tensors["soft_classes"] = (kind, [samples, spec.soft_labels], width)
    fields = {"version": 2, "checksum": "0" * 16, **asdict(metadata_of(spec))}
    fields["store"].pop("label_bytes")
    fields.pop("labeller")  # which a file without one does not mention
    about = json.dumps(fields, separators=(",", ":"))
    header, start = {"__metadata__": {"gencond_fast": about}}, 0
    order = ["F32", "I32", "U16", "U8"]
    for name, (kind, shape, width) in sorted(
        tensors.items(), key=lambda item: (order.index(item[1][0]), item[0])
    ):
        end = start + width * math.prod(shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        start = end
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-length // 8) * 8 + start


def sized(size: int, shape: tuple[int, int, int], real: int = 10**6, **options) -> StoreSpec:
    classes, channels, side = shape
    return size_store(
        size,
        StoreConfig(format="dct", **options),
        num_classes=classes,
        channels=channels,
        image_size=side,
        file_size=file_size,
        real=real,
    )


def least(shape: tuple[int, int, int], **options) -> int:
    """The bytes that the refusal of a hopeless budget asks for."""
    with pytest.raises(InputError) as refusal:
        sized(1, shape, **options)
    return int(re.search(r"which need (\d+) bytes: raise --bytes", str(refusal.value))[1])


@given(
    shape=shapes,
    per_class=st.integers(1, 999),
    coefficients=st.integers(1, 16),
    extra=st.integers(0, 10**5),
    kept=labels,
)
@settings(max_examples=8)
def test_these_tests_weigh_rightly(shape, per_class, coefficients, extra, kept):
    classes, channels, side = shape
    sizes = {"num_classes": classes, "channels": channels, "image_size": side}
    stream = 4 * (per_class * classes * coefficients // 4 + 1 + extra)
    made = spec_of(
        "dct",
        **sizes,
        per_class=per_class,
        coefficients=coefficients,
        stream_bytes=stream,
        soft_labels=min(kept, classes),
    )
    assert file_size(made) == artifact.file_size(metadata_of(made))


@given(shape=shapes, ratio=st.floats(1.0, 50.0), kept=labels)
def test_every_byte_is_used_and_none_more(shape, ratio, kept):
    size = int(least(shape, soft_labels=kept) * ratio)
    spec = sized(size, shape, soft_labels=kept)
    used = file_size(spec)
    assert used <= size
    most = 4 * -(-spec.samples * spec.coefficients // 4)
    full = spec.stream_bytes >= most  # a byte for each coefficient
    assert full or used >= size - 16 or used >= 0.98 * size
    assert not full or spec.stream_bytes == max(most, 4 * spec.num_classes)


@given(shape=shapes, kept=labels)
def test_the_least_budget_is_enough_and_one_byte_less_is_not(shape, kept):
    need = least(shape, soft_labels=kept)
    for size in range(need, need + 40):
        spec = sized(size, shape, soft_labels=kept)
        assert file_size(spec) <= size
        assert spec.stream_bytes >= 4 * spec.num_classes
    for size in (need - 1, need // 2, 1):
        with pytest.raises(InputError, match=f"which need {need} bytes"):
            sized(size, shape, soft_labels=kept)


@pytest.mark.parametrize("ipc", [1, 10, 50])
@pytest.mark.parametrize(
    "shape", [(10, 3, 32), (10, 1, 28), (100, 3, 32), (200, 3, 64), (10, 3, 128), (1000, 3, 64)]
)
def test_the_budgets_of_the_literature_are_filled(ipc, shape):
    size = ipc_to_bytes(ipc, *shape)
    spec = sized(size, shape)
    assert 0.999 * size <= file_size(spec) <= size
    assert spec.per_class > 10 * ipc
    each, values = spec.stream_bytes / spec.samples, spec.channels * spec.image_size**2
    assert min(5 * each, values) <= spec.coefficients <= 20 * each


def test_larger_images_and_larger_budgets_have_finer_samples():
    def each(ipc, shape):
        spec = sized(ipc_to_bytes(ipc, *shape), shape)
        return spec.stream_bytes / spec.samples

    small, gray, large = (10, 3, 32), (10, 1, 32), (10, 3, 64)
    assert each(1, gray) == pytest.approx(each(1, small), rel=0.05)
    assert each(1, large) == pytest.approx(2**1.5 * each(1, small), rel=0.05)
    assert each(8, small) == pytest.approx(2 * each(1, small), rel=0.05)


def test_no_more_samples_than_real_images():
    free = sized(200_000, (10, 3, 32))
    for real in (1, 5, free.per_class - 1):
        spec = sized(200_000, (10, 3, 32), real=real)
        assert spec.per_class == real
        assert spec.coefficients >= free.coefficients
    assert sized(200_000, (10, 3, 32), real=free.per_class + 1) == free


def test_more_bytes_than_coefficients_are_not_filled():
    spec = sized(10**7, (10, 1, 8), real=5)
    assert (spec.per_class, spec.coefficients, spec.stream_bytes) == (5, 64, 50 * 64)
    assert file_size(spec) < 6000


@given(
    shape=shapes,
    per_class=st.integers(1, 60),
    coefficients=st.none() | st.integers(1, 16),
    real=st.sampled_from([3, 10**6]),
)
def test_fixed_sizes_are_kept(shape, per_class, coefficients, real):
    fixed = {"per_class": per_class, "coefficients": coefficients}
    size = 3 * least(shape, **fixed)
    spec = sized(size, shape, real, **fixed)
    assert spec.per_class == per_class
    assert coefficients in (None, spec.coefficients)
    assert file_size(spec) <= size


def test_bytes_of_a_sample_decide_on_how_many_there_are():
    for each in (10.0, 40.0, 333.0):
        spec = sized(300_000, (10, 3, 32), sample_bytes=each)
        assert spec.stream_bytes / spec.samples == pytest.approx(each, rel=0.15)
        assert spec.stream_bytes / spec.samples >= 0.9 * each


def test_one_sample_of_a_class_where_it_would_usually_take_more_bytes():
    spec = sized(least((300, 3, 224)) + 10_000, (300, 3, 224))
    assert spec.per_class == 1
    assert spec.stream_bytes / spec.samples < 100


@given(shape=shapes, part=st.floats(0.01, 1.0), extra=st.integers(0, 3000))
def test_many_coefficients_leave_room_for_fewer_samples(shape, part, extra):
    _, channels, side = shape
    kept = max(1, round(part * channels * side**2))
    size = least(shape, coefficients=kept) + extra
    spec = sized(size, shape, coefficients=kept, sample_bytes=0.01)
    assert spec.coefficients == kept
    assert file_size(spec) <= size


@pytest.mark.parametrize(("shape", "values"), [((10, 3, 32), 3072), ((2, 1, 5), 25)])
def test_more_coefficients_than_an_image_has(shape, values):
    sized(10**6, shape, coefficients=values)
    with pytest.raises(
        InputError, match=rf"store.coefficients' is {values + 1}, more than the {values} of an"
    ):
        sized(10**6, shape, coefficients=values + 1)


@given(shape=shapes, ratio=st.floats(1.0, 20.0), soft=labels)
def test_zeros_alone_always_fit(shape, ratio, soft):
    spec = sized(int(least(shape, soft_labels=soft) * ratio), shape, soft_labels=soft)
    assert spec.samples * spec.coefficients <= MOST_LEVELS * spec.stream_bytes
    assert storage_layout(spec)["stream"].shape == (spec.stream_bytes,)
