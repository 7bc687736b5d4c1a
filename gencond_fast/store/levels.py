"""From real-valued codes to whole levels that fit into a number of bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gencond_fast.store import entropy

_FINEST = 1.0 / 255.0  # a finer step than the rounding of images to bytes gains nothing
_WORD = 4  # bytes, that the coder fills up
_PART = 4096  # samples at a time
_HALVINGS = 18  # of a range of steps or thresholds, on a logarithmic scale


class Packed(NamedTuple):
    """Levels as they are stored.

    Attributes:
        stream: uint8 [room], of `entropy.encode`, filled up with zeros.
        odds: uint8 [2, K], the parameters of its columns.
        check: uint8 [4], of `entropy.check_of`.
    """

    stream: np.ndarray
    odds: np.ndarray
    check: np.ndarray


def quantised(codes: np.ndarray) -> np.ndarray:
    """The nearest levels within the bounds: int16, of the same shape."""
    return np.clip(np.rint(codes), -entropy.LARGEST, entropy.LARGEST).astype(np.int16)


def coded_size(counts: entropy.Counts) -> float:
    """Bytes that levels take with the parameters that fit them best."""
    return entropy.size(counts, entropy.fit(counts))


def finest_step(coefficients: np.ndarray, room: int) -> float:
    """The smallest step at which coefficients are within the bounds of levels and fit.

    Args:
        coefficients: float [n, K], of the orthonormal transform of images in [0, 1].
        room: bytes for the levels.

    Returns:
        The step; one at which all levels are zero where nothing fits.
    """
    largest = float(np.abs(coefficients).max())
    low = max(_FINEST, largest / entropy.LARGEST)
    high = max(low, 2.1 * largest)

    def fits(step: float) -> bool:
        parts = [
            entropy.count(quantised(coefficients[start : start + _PART] / step))
            for start in range(0, len(coefficients), _PART)
        ]
        return coded_size(entropy.together(parts)) + _WORD <= room

    return low if fits(low) else _least(fits, low, high)


def pack(codes: np.ndarray, room: int) -> Packed:
    """Codes rounded and coded in `room` bytes; the smallest ones become zero until they fit.

    Args:
        codes: float32 [n, K], finite, of any size.
        room: bytes, in words of four; `StoreSpec` promises enough for levels that are all zero.

    Raises:
        InputError: the package that codes is not installed.
    """
    levels = quantised(codes)
    odds = entropy.fit(entropy.count(levels))
    stream = entropy.encode(levels, odds)
    spare = _WORD
    while len(stream) > room:
        levels = _without_small(codes, _least_threshold(codes, room - spare))
        odds = entropy.fit(entropy.count(levels))
        stream = entropy.encode(levels, odds)
        spare *= 2  # where the size was off
    return Packed(_array(stream.ljust(room, b"\0")), odds, _array(entropy.check_of(levels)))


def _size(levels: np.ndarray) -> float:
    return coded_size(entropy.count(levels))


def _array(content: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(content), dtype=np.uint8)  # one that can be written to


def _without_small(codes: np.ndarray, threshold: float) -> np.ndarray:
    return quantised(np.where(np.abs(codes) < threshold, np.float32(0.0), codes))


def _least_threshold(codes: np.ndarray, room: int) -> float:
    """Such that the codes that are not below it fit; above all of them if none do."""
    low = 0.5  # what is below is rounded to zero anyway
    return _least(
        lambda threshold: _size(_without_small(codes, threshold)) <= room,
        low,
        max(low, 2.0 * float(np.abs(codes).max())),
    )


def _least(fits: Callable[[float], bool], low: float, high: float) -> float:
    """The least value that fits, between one that does not and one that is taken in any case."""
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
