"""Entropy coding of quantised coefficients: a static model of each column, and a range coder.

Levels are small integers, most of them zero. Each column has a two-sided geometric distribution,
the discrete form of the Laplace distribution that transform coefficients follow (Lam and Goodman,
"A mathematical analysis of the DCT coefficient distributions for images", 2000), with a weight of
its own at zero. Its two parameters are bytes, and all that is computed from them are products and
sums of numbers in double precision, which come out the same on every machine. The coder is the
range coder of `constriction` (Bamler, "Understanding entropy coding with asymmetric numeral
systems", 2201.01741), which is imported when it is needed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from gencond_fast.errors import InputError

LARGEST = 1023
"""Levels lie in -LARGEST ... LARGEST."""

_SYMBOLS = 2 * LARGEST + 1
_STEPS = 256  # of a parameter
# what the coder adds: it gives each symbol 2^-24 before it shares out the rest, and the range that
# it divides is a whole number
_LEAK = -math.log2(1.0 - _SYMBOLS * 2.0**-24)  # bits a level
_ROUNDING = 2e-4  # of all bits


def require_coder() -> Any:
    """The package that codes.

    Raises:
        InputError: it is not installed.
    """
    try:
        import constriction  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            "what is entropy-coded needs the package constriction, which is not installed: "
            "pip install 'constriction>=0.5,<0.6'"
        ) from None
    return constriction


class Counts(NamedTuple):
    """What the coded size of levels hangs on; those of parts of the rows add up.

    Attributes:
        rows: n.
        others: int or float64 [K], how many levels of a column are not zero.
        total: int or float64 [K], the sum of their sizes.
    """

    rows: int
    others: np.ndarray
    total: np.ndarray


def count(levels: np.ndarray) -> Counts:
    """Of levels int [n, K]."""
    total = np.abs(levels).sum(0, dtype=np.int64)
    return Counts(len(levels), np.count_nonzero(levels, axis=0), total)


def together(parts: Sequence[Counts]) -> Counts:
    """Of the rows of all parts."""
    rows, others, total = zip(*parts, strict=True)
    return Counts(sum(rows), np.sum(others, axis=0), np.sum(total, axis=0))


def fit(counts: Counts) -> np.ndarray:
    """The parameters of each column, by maximum likelihood.

    Args:
        counts: of levels within the bounds.

    Returns:
        uint8 [2, K]: the share of zeros, and how slowly larger levels become rarer. A byte b
        stands for (b + 1/2) / 256.
    """
    zeros = 1.0 - counts.others / max(counts.rows, 1)
    # a geometric distribution on 1, 2, ... of mean m: decay 1 - 1/m
    others = np.maximum(counts.others, 1)
    decay = 1.0 - others / np.maximum(counts.total, others)
    return np.stack([_to_byte(zeros), _to_byte(decay)])


def size(counts: Counts, parameters: np.ndarray) -> float:
    """Bytes that `encode` gives, to within a few in ten thousand, from counts and sums alone.

    More than that only where levels are so rare under the parameters that the coder gives them
    better odds.

    Args:
        counts: of levels within the bounds.
        parameters: uint8 [2, K], as `fit` gives them.
    """
    zero, decay = (parameters + 0.5) / _STEPS
    rows, others, total = counts
    first = 0.5 * (1.0 - zero) * _tails()[parameters[1], 0]  # of level 1; then by powers of decay
    logarithms = (
        (rows - others) @ np.log2(zero) + others @ np.log2(first / decay) + total @ np.log2(decay)
    )
    return float(rows * len(others) * _LEAK - (1.0 + _ROUNDING) * logarithms) / 8.0


def encode(levels: np.ndarray, parameters: np.ndarray) -> bytes:
    """The levels as bytes, in words of four, the lowest byte first.

    Args:
        levels: int [n, K], within the bounds. They are coded column after column.
        parameters: uint8 [2, K], of any values: others than the fitted ones cost more bytes.

    Raises:
        InputError: the package that codes is not installed.
    """
    return encode_columns(levels.T, parameters.T)


def encode_columns(columns: Iterable[np.ndarray], parameters: Iterable[np.ndarray]) -> bytes:
    """The same of columns of any lengths, each int [n], with its two parameters.

    Raises:
        InputError: the package that codes is not installed.
    """
    coder = require_coder()
    encoder = coder.stream.queue.RangeEncoder()
    for column, (zero, decay) in zip(columns, parameters, strict=True):
        symbols = np.ascontiguousarray(column, dtype=np.int32) + LARGEST
        encoder.encode(symbols, _model(coder, zero, decay))
    return encoder.get_compressed().astype("<u4").tobytes()


def check_of(levels: np.ndarray) -> bytes:
    """Four bytes by which `decode` knows that levels int [n, K] came out as they were put in."""
    return zlib.crc32(np.ascontiguousarray(levels, dtype="<i2").data).to_bytes(4, "big")


def decode(stream: bytes, parameters: np.ndarray, samples: int, check: bytes) -> np.ndarray:
    """The levels int16 [samples, K] that `encode` was given; whatever follows them is ignored.

    Args:
        stream: what `encode` gave.
        parameters: uint8 [2, K], those of the encoding.
        samples: n.
        check: `check_of` the levels. A range coder decodes nearly any bytes to something.

    Raises:
        ValueError: the stream is damaged, or none of these parameters.
        InputError: the package that decodes is not installed.
    """
    columns = decode_columns(stream, parameters.T, [samples] * parameters.shape[1])
    levels = np.ascontiguousarray(np.stack(columns, 1))
    if check_of(levels) != check:
        raise ValueError("its codes do not come out as they were put in")
    return levels


def decode_columns(
    stream: bytes, parameters: Iterable[np.ndarray], lengths: Iterable[int]
) -> list[np.ndarray]:
    """The columns int16 [n] that `encode_columns` was given.

    Raises:
        ValueError: the stream is damaged, or none of these parameters.
        InputError: the package that decodes is not installed.
    """
    coder = require_coder()
    if len(stream) % 4:
        raise ValueError("its codes are no whole number of words")
    words = np.frombuffer(stream, dtype="<u4").astype(np.uint32)
    decoder = coder.stream.queue.RangeDecoder(words)
    try:
        return [
            (decoder.decode(_model(coder, zero, decay), length) - LARGEST).astype(np.int16)
            for (zero, decay), length in zip(parameters, lengths, strict=True)
        ]
    except AssertionError:  # how the decoder says that the words are no stream of these models
        raise ValueError("its codes are damaged") from None


def probabilities(zero: int, decay: int) -> np.ndarray:
    """Of the levels from -LARGEST to LARGEST in a column of these parameters: float64.

    With p0 = (zero + 1/2) / 256 and d = (decay + 1/2) / 256 level 0 has p0, and the levels k and -k
    have (1 - p0) d^k / (2 (d + d^2 + ... + d^LARGEST)).
    """
    share = (zero + 0.5) / _STEPS
    half = 0.5 * (1.0 - share) * _tails()[decay]
    return np.concatenate([half[::-1], [share], half])


@cache
def _tails() -> np.ndarray:
    """Geometric distributions on 1 ... LARGEST: float64 [256, LARGEST], one for each byte."""
    decay = (np.arange(_STEPS) + 0.5) / _STEPS
    # products, not powers: libraries of mathematics differ in the last bit of a power
    tails = np.cumprod(np.broadcast_to(decay[:, None], (_STEPS, LARGEST)), axis=1)
    return tails / np.cumsum(tails, axis=1)[:, -1:]


def _model(coder: Any, zero: int, decay: int) -> Any:
    # the fast way to fixed point; the other one may change what is written
    return coder.stream.model.Categorical(probabilities(zero, decay), lazy=False, perfect=False)


def _to_byte(share: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(share * _STEPS - 0.5), 0, _STEPS - 1).astype(np.uint8)
