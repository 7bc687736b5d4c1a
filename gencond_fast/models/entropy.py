"""Entropy coding of quantised coefficients: a static model of each column, and a range coder.

Levels are small integers, most of them zero. Each column has a two-sided geometric distribution,
the discrete form of the Laplace distribution that transform coefficients follow (Lam and Goodman,
"A mathematical analysis of the DCT coefficient distributions for images", 2000), with a weight of
its own at zero. Its two parameters are bytes, and all that is computed from them are products and
sums of numbers in double precision, which come out the same on every machine.
"""

from __future__ import annotations

import constriction  # type: ignore[import-untyped]
import numpy as np

LARGEST = 127
"""Levels lie in -LARGEST ... LARGEST."""

_RAREST = 2.0**-40  # a level that is written although none was met has odds as well
_STEPS = 256  # of a parameter


def fit(levels: np.ndarray) -> np.ndarray:
    """The parameters of each column.

    Args:
        levels: int [n, K], within the bounds.

    Returns:
        uint8 [2, K]: the share of zeros, and how slowly larger levels become rarer. A byte b
        stands for (b + 1/2) / 256.
    """
    size = np.abs(levels.astype(np.int64))
    zeros = (size == 0).mean(0)
    others = np.maximum((size > 0).sum(0), 1)
    # maximum likelihood of a geometric distribution on 1, 2, ... of mean m: decay 1 - 1/m
    decay = 1.0 - others / np.maximum(size.sum(0), others)
    return np.stack([_to_byte(zeros), _to_byte(decay)])


def size(levels: np.ndarray, parameters: np.ndarray) -> float:
    """Bytes that `encode` gives, to within a few."""
    shifted = levels.T.astype(np.int64) + LARGEST
    bits = -np.log2(probabilities(parameters))
    return float(np.take_along_axis(bits, shifted, axis=1).sum() / 8.0)


def encode(levels: np.ndarray, parameters: np.ndarray) -> bytes:
    """The levels as bytes, in whole words of four.

    Args:
        levels: int [n, K], within the bounds.
        parameters: uint8 [2, K], of any values: others than the fitted ones cost more bytes.
    """
    encoder = constriction.stream.queue.RangeEncoder()
    symbols = np.ascontiguousarray(levels.T, dtype=np.int32) + LARGEST
    for column, odds in zip(symbols, probabilities(parameters), strict=True):
        encoder.encode(column, _model(odds))
    return encoder.get_compressed().astype("<u4").tobytes()


def decode(stream: bytes, parameters: np.ndarray, samples: int) -> np.ndarray:
    """The levels int8 [samples, K] that `encode` was given; whatever follows them is ignored.

    Raises:
        ValueError: the stream is not one.
    """
    if len(stream) % 4:
        raise ValueError("its codes are no whole number of words")
    words = np.frombuffer(stream, dtype="<u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    levels = np.empty((parameters.shape[1], samples), dtype=np.int8)
    try:
        for row, odds in zip(levels, probabilities(parameters), strict=True):
            row[:] = decoder.decode(_model(odds), samples) - LARGEST
    except AssertionError:  # how the decoder says that the words are no stream of these models
        raise ValueError("its codes are damaged") from None
    return np.ascontiguousarray(levels.T)


def probabilities(parameters: np.ndarray) -> np.ndarray:
    """float64 [K, 2 * LARGEST + 1], of the levels from -LARGEST to LARGEST."""
    zero, decay = (parameters.astype(np.float64) + 0.5) / _STEPS
    # products, not powers: libraries of mathematics differ in the last bit of a power
    tails = np.cumprod(np.broadcast_to(decay, (LARGEST, len(decay))), axis=0).T
    tails = tails / np.cumsum(tails, axis=1)[:, -1:]
    half = 0.5 * (1.0 - zero)[:, None] * tails
    odds = np.concatenate([half[:, ::-1], zero[:, None], half], axis=1)
    return np.ascontiguousarray(np.maximum(odds, _RAREST))


def _model(odds: np.ndarray) -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(odds, perfect=False)


def _to_byte(share: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(share * _STEPS - 0.5), 0, _STEPS - 1).astype(np.uint8)
