"""Gaussian noise that nobody can draw again."""

from __future__ import annotations

import os

import numpy as np

_WORD = 8  # bytes


def secret_gaussian(*shape: int) -> np.ndarray:
    """Independent standard normal numbers, float64, from the system's own randomness.

    There is no seed that could be stored or guessed: every number comes from fresh bytes of
    `os.urandom`, by the transform of Box and Muller (1958). Beyond 9.5 there are none; the true
    probability of those is below 1e-20.
    """
    count = int(np.prod(shape))
    words = np.frombuffer(os.urandom(2 * count * _WORD), dtype=np.uint64).reshape(2, count)
    # a logarithm that is fine at both ends, where u is nearly 0 and nearly 1; never that of 0
    mirrored = words[0] > ~words[0]
    less = (np.minimum(words[0], ~words[0]) + 0.5) * 2.0**-64
    radius = np.sqrt(-2.0 * np.where(mirrored, np.log1p(-less), np.log(less)))
    return (radius * np.cos(2.0 * np.pi * (words[1] * 2.0**-64))).reshape(shape)
