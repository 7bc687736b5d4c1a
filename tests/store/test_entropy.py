"""Coded levels: their size against the entropy, their bits, and what damaged ones lead to."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.errors import InputError
from gencond_fast.store import entropy
from gencond_fast.store.entropy import LARGEST

shapes = st.tuples(st.sampled_from([0, 1, 2, 17, 300]), st.sampled_from([1, 2, 5, 40]))


def drawn(seed: int, shape: tuple[int, int], kind: str = "sparse") -> np.ndarray:
    """Levels int16 as frequencies have them, or at the ends of what is possible."""
    rng = np.random.default_rng(seed)
    if kind == "zeros":
        return np.zeros(shape, np.int16)
    if kind == "extremes":
        return rng.choice([-LARGEST, 0, LARGEST], size=shape).astype(np.int16)
    if kind == "flat":
        return rng.integers(-LARGEST, LARGEST + 1, shape).astype(np.int16)
    spread = np.exp(rng.uniform(-3, 4, shape[1]))
    return np.clip(np.rint(rng.laplace(size=shape) * spread), -LARGEST, LARGEST).astype(np.int16)


kinds = st.sampled_from(["sparse", "zeros", "extremes", "flat"])


def share(byte: int) -> float:
    return (byte + 0.5) / 256


def chance(level: int, zero: int, decay: int) -> float:
    """The probability of a level by its formula, a power at a time."""
    if level == 0:
        return share(zero)
    total = math.fsum(share(decay) ** k for k in range(1, LARGEST + 1))
    return (1 - share(zero)) / 2 * share(decay) ** abs(level) / total


def coded_bits(levels: np.ndarray, parameters: np.ndarray) -> float:
    """Sum of -log2 p, level after level, under the probabilities of the coder.

    It gives each of its symbols 2^-24, and shares out what is left.
    """
    tables = [
        {k: chance(k, zero, decay) for k in set(column)}
        for column, (zero, decay) in zip(levels.T.tolist(), parameters.T.tolist(), strict=True)
    ]
    left = 1 - (2 * LARGEST + 1) * 2**-24
    return -math.fsum(
        math.log2(2**-24 + left * table[k])
        for table, column in zip(tables, levels.T.tolist(), strict=True)
        for k in column
    )


@given(seed=st.integers(0, 2**20), shape=shapes, kind=kinds)
def test_round_trip(seed, shape, kind):
    levels = drawn(seed, shape, kind)
    parameters = entropy.fit(entropy.count(levels))
    stream = entropy.encode(levels, parameters)
    assert len(stream) % 4 == 0
    check = entropy.check_of(levels)
    for following in (b"", b"\0" * 8, b"\xff" * 4):
        found = entropy.decode(stream + following, parameters, len(levels), check)
        assert found.dtype == np.int16
        assert np.array_equal(found, levels)


@given(seed=st.integers(0, 2**20), zero=st.integers(0, 255), decay=st.integers(0, 255), kind=kinds)
def test_round_trip_under_parameters_that_do_not_fit(seed, zero, decay, kind):
    levels = drawn(seed, (9, 3), kind)
    parameters = np.tile(np.array([[zero], [decay]], np.uint8), 3)
    stream = entropy.encode(levels, parameters)
    found = entropy.decode(stream, parameters, 9, entropy.check_of(levels))
    assert np.array_equal(found, levels)


@given(zero=st.integers(0, 255), decay=st.integers(0, 255))
def test_probabilities_are_those_of_their_formula(zero, decay):
    found = entropy.probabilities(zero, decay)
    assert found.shape == (2 * LARGEST + 1,)
    assert abs(math.fsum(found) - 1) < 1e-12
    assert np.array_equal(found, found[::-1])
    for level in (0, 1, -1, 2, 7, -30, LARGEST):
        want = chance(level, zero, decay)
        assert found[LARGEST + level] == pytest.approx(want, rel=1e-11, abs=1e-300)


@given(seed=st.integers(0, 2**20))
def test_no_other_parameters_are_much_better(seed):
    levels = drawn(seed, (200, 4))
    fitted = entropy.fit(entropy.count(levels))
    best = entropy.size(entropy.count(levels), fitted)
    for other in np.random.default_rng(seed).integers(0, 256, (50, 2, 4)).astype(np.uint8):
        assert entropy.size(entropy.count(levels), other) >= best * (1 - 5e-3) - 0.1


def test_parameters_of_known_columns():
    columns = [[0] * 8, [1, -1, 0, 0, 0, 0, 0, 0], [4, -4, 4, -4, 4, 4, 4, 4]]
    parameters = entropy.fit(entropy.count(np.array(columns, np.int16).T))
    assert np.abs((parameters[0] + 0.5) / 256 - [1.0, 0.75, 0.0]).max() <= 1 / 256
    assert np.abs((parameters[1] + 0.5) / 256 - [0.0, 0.0, 0.75]).max() <= 1 / 256


@given(seed=st.integers(0, 2**20), shape=shapes)
def test_size_is_the_sum_of_the_bits(seed, shape):
    levels = drawn(seed, shape)
    parameters = entropy.fit(entropy.count(levels))
    want = coded_bits(levels, parameters) / 8
    assert entropy.size(entropy.count(levels), parameters) == pytest.approx(want, rel=2e-3, abs=2)
    coded = len(entropy.encode(levels, parameters))
    assert want - 1e-6 <= coded <= want * (1 + 5e-4) + 8


@pytest.mark.parametrize("spread", [0.5, 2.0, 40.0])
def test_size_is_close_to_the_entropy(spread):
    """Of a column of two-sided geometric levels, whose entropy is known."""
    rng = np.random.default_rng(0)
    decay = math.exp(-1 / spread)
    sign = rng.choice([-1, 1], (20_000, 3))
    levels = (sign * (rng.geometric(1 - decay, sign.shape) - 1)).astype(np.int16)
    # a geometric level above 0 has a sign as well
    bits = -math.log2(1 - decay) - decay / (1 - decay) * math.log2(decay) + decay
    coded = len(entropy.encode(levels, entropy.fit(entropy.count(levels))))
    assert coded * 8 / levels.size == pytest.approx(bits, rel=0.02)


def test_a_frozen_file_is_still_read():
    """The bytes of fixed levels: whoever changes them makes files unreadable."""
    place = np.arange(60).reshape(12, 5)
    levels = ((place * place * 7919) % 97 // 20 - 2) * (1 + (place % 5 == 0) * 40)
    levels = levels.astype(np.int16)
    levels[3, 2], levels[7, 4] = LARGEST, -LARGEST
    parameters = entropy.fit(entropy.count(levels))
    assert parameters.tobytes().hex() == FROZEN_PARAMETERS
    assert entropy.encode(levels, parameters).hex() == FROZEN_STREAM
    assert entropy.check_of(levels).hex() == FROZEN_CHECK
    stream, check = bytes.fromhex(FROZEN_STREAM), bytes.fromhex(FROZEN_CHECK)
    assert np.array_equal(entropy.decode(stream, parameters, 12, check), levels)


FROZEN_PARAMETERS = "2a5540152afb45fd73fd"
FROZEN_STREAM = (
    "174259193bdc54ace21d331cf82cbc4839a24e683e895396eaa99b22d6f630a85e599c63a7001d77c610dc09"
)
FROZEN_CHECK = "b550a674"


def damaged(stream: bytes, rng: np.random.Generator) -> dict[str, bytes]:
    words = len(stream) // 4
    flipped = bytearray(stream)
    flipped[rng.integers(len(stream) // 2)] ^= 1 << int(rng.integers(8))
    return {
        "empty": b"",
        "first word only": stream[:4],
        "cut": stream[: words // 2 * 4],
        "first word lost": stream[4:],
        "half a word": stream[:-2],
        "one bit": bytes(flipped),
        "noise": rng.bytes(len(stream)),
        "zeros": bytes(len(stream)),
        "ones": b"\xff" * len(stream),
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_stream_is_an_error(seed):
    rng = np.random.default_rng(seed)
    levels = drawn(seed, (60, 8))
    parameters, check = entropy.fit(entropy.count(levels)), entropy.check_of(levels)
    for name, stream in damaged(entropy.encode(levels, parameters), rng).items():
        with pytest.raises(ValueError, match="its codes"):
            print(name, entropy.decode(stream, parameters, 60, check))


def test_other_parameters_samples_or_check_are_an_error():
    levels = drawn(1, (60, 8))
    parameters, check = entropy.fit(entropy.count(levels)), entropy.check_of(levels)
    stream = entropy.encode(levels, parameters)
    for wrong in (
        (stream, parameters ^ 1, 60, check),
        (stream, parameters[:, ::-1], 60, check),
        (stream, parameters, 59, check),
        (stream, parameters, 60, b"\0" * 4),
    ):
        with pytest.raises(ValueError, match="its codes"):
            entropy.decode(*wrong)


def test_without_the_coder_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    levels = np.zeros((2, 2), np.int16)
    parameters = entropy.fit(entropy.count(levels))
    assert entropy.size(entropy.count(levels), parameters) < 1
    for use in (
        lambda: entropy.encode(levels, parameters),
        lambda: entropy.decode(b"", parameters, 2, b""),
    ):
        with pytest.raises(InputError, match="pip install 'constriction>=0.5,<0.6'"):
            use()
