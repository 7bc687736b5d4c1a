"""The coder of soft labels: what goes in comes out, in the bits of docs/reference/format.md."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencond_fast.errors import InputError
from gencond_fast.store import label_coder

shapes = st.tuples(st.sampled_from([1, 2, 3, 10]), st.sampled_from([1, 2, 5, 23]))
scales = st.sampled_from([1, 2, 7, 16, 255])
kinds = st.sampled_from(["labels", "hard", "noise", "others"])


def drawn(seed: int, shape: tuple[int, int], scale: int, kind: str = "labels") -> np.ndarray:
    """Levels uint8 [C, M, C]: about as teachers give them, or whatever there can be."""
    rng = np.random.default_rng(seed)
    classes, per_class = shape
    full = (classes, per_class, classes)
    if kind == "noise":
        odds = rng.dirichlet([1.0] * (classes + 1), full[:2])
        return rng.multinomial(scale, odds)[..., 1:].astype(np.uint8)
    if kind == "others":  # all of a class that is not their own
        return np.broadcast_to(scale * np.eye(classes)[::-1, None], full).astype(np.uint8)
    own = np.eye(classes)[:, None]
    if kind == "hard":
        return np.broadcast_to(scale * own, full).astype(np.uint8)
    soft = rng.dirichlet([0.1] * classes, full[:2])
    return np.floor(scale * (0.7 * own + 0.3 * soft)).astype(np.uint8)


def expected_bits(levels: np.ndarray, scale: int) -> float:
    """Number after number, as docs/reference/format.md has it."""
    classes, per_class, _ = levels.shape
    seen: dict[tuple, int] = {}
    start, bits = 0, 0.0

    def cost(table: str, left: int, mean: int, number: int) -> float:
        if left == 0:
            return 0.0
        room, mean = left.bit_length(), mean.bit_length()

        def count(mean: int, symbol: int) -> int:
            return seen.get((table, room, mean, symbol), 0)

        first = [2**17, *[2**14 if size <= room else 2**8 for size in range(1, 9)], 2**15]
        known = [
            first[symbol] + 2**16 * sum(count(each, symbol) for each in range(12))
            for symbol in range(10)
        ]
        weights = [
            2**17 * known[symbol] // sum(known) + 1 + 2**16 * count(mean, symbol)
            for symbol in range(10)
        ]
        size = number.bit_length()
        symbol = 9 if number == left else size
        new.append((table, room, mean, symbol))
        bits = math.log2(sum(weights) / weights[symbol])
        if symbol not in (0, 9):
            bits += math.log2(min(2**size, left) - 2 ** (size - 1))
        return bits

    while start < per_class:
        stop = min(per_class, start + max(1, start // 4))
        new: list[tuple] = []
        for c in range(classes):
            before = levels[c, :start].astype(int)
            unsaid, own = scale - before.sum(1), before[:, c]

            def mean(numbers: np.ndarray) -> int:
                return 8 * int(numbers.sum()) // max(start, 1)  # noqa: B023

            for row in levels[c, start:stop].astype(int).tolist():
                bits += cost("unsaid", scale, mean(unsaid), scale - sum(row))
                if classes == 1:
                    continue
                left = sum(row)
                bits += cost("others", left, mean(scale - unsaid - own), left - row[c])
                left -= row[c]
                *single, _ = [j for j in range(classes) if j != c]
                for j in single:
                    bits += cost("single", left, mean(before[:, j]), row[j])
                    left -= row[j]
        for each in new:
            seen[each] = seen.get(each, 0) + 1
        start = stop
    return bits


@given(seed=st.integers(0, 2**20), shape=shapes, scale=scales, kind=kinds)
@settings(max_examples=20)
def test_round_trip(seed, shape, scale, kind):
    levels = drawn(seed, shape, scale, kind)
    before = levels.copy()
    stream = label_coder.encode(levels, scale)
    assert np.array_equal(levels, before)
    assert stream == label_coder.encode(levels, scale)
    assert len(stream) % 4 == 0
    for following in (b"", b"\0" * 8, b"\xff" * 4):
        found = label_coder.decode(stream + following, *shape, scale)
        assert found.dtype == np.uint8
        assert np.array_equal(found, levels)


@given(seed=st.integers(0, 2**20), shape=shapes, scale=scales, kind=kinds)
@settings(max_examples=12)
def test_bits_are_those_of_the_description(seed, shape, scale, kind):
    levels = drawn(seed, shape, scale, kind)
    taken = 8 * len(label_coder.encode(levels, scale))
    want = expected_bits(levels, scale)
    assert want - 1 <= taken <= 1.001 * want + 64


def test_hard_labels_take_next_to_nothing():
    assert len(label_coder.encode(drawn(0, (10, 200), 255, "hard"), 255)) <= 60


def test_classes_that_are_taken_for_one_another_are_learned():
    rng = np.random.default_rng(0)
    confused = np.full((10, 10), 0.01) + np.eye(10) + 0.5 * np.roll(np.eye(10), 3, 1)
    odds = np.stack([rng.dirichlet(row, 300) for row in confused])
    levels = np.floor(30 * odds).astype(np.uint8)
    counts = np.bincount(levels.ravel())
    alike = -sum(n * math.log2(n / levels.size) for n in counts if n) / 8  # all by one histogram
    taken = len(label_coder.encode(levels, 30))
    assert taken < 0.6 * alike
    shuffled = rng.permuted(levels, axis=2)
    assert taken < 0.85 * len(label_coder.encode(shuffled, 30))


@given(seed=st.integers(0, 2**20), data=st.binary(max_size=120))
@settings(max_examples=25)
def test_other_bytes_give_a_refusal_or_labels_within_bounds(seed, data):
    levels = drawn(seed, (3, 9), 100)
    spoiled = bytearray(label_coder.encode(levels, 100))
    spoiled[seed % len(spoiled)] ^= 1 << seed % 8
    for stream in (bytes(spoiled), data, b""):
        try:
            found = label_coder.decode(stream, 3, 9, 100)
        except ValueError as error:
            assert "soft label" in str(error)  # noqa: PT017
            continue
        assert found.shape == (3, 9, 3)
        assert found.max() <= 100


def test_without_the_coder_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    for use in (
        lambda: label_coder.encode(drawn(0, (2, 2), 9), 9),
        lambda: label_coder.decode(b"", 2, 2, 9),
    ):
        with pytest.raises(InputError, match="pip install 'constriction>=0.5,<0.6'"):
            use()
