"""Entropy coding of soft labels: levels of class probabilities, each in the light of those before.

A label is coded as what it leaves unsaid, then as what the other classes have, then class by class.
What is left to be shared out, and what the class had on average in the samples of the same own
class before, choose among distributions that are counted as the samples go by (adaptive coding by
contexts: Rissanen and Langdon, "Universal modeling and coding", 1981). Nothing but the stream is
stored. All counts are whole numbers, so that every machine finds the same ones. The coder is that
of `entropy`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from gencond_fast.store.entropy import require_coder

MOST_CODED = 2**24  # numbers of all labels together: coding takes a microsecond each

_SIZES = np.array([number.bit_length() for number in range(2**11)], dtype=np.int32)
_ALL = 9  # a symbol: all that is left; those before it are sizes in bits
_SYMBOLS = 10
_PARTS = 8  # of a level, to which means are known
_MEANS = 12  # sizes in bits of 255 * _PARTS, and of 0
_ONE = 2**16  # weight of a count


def encode(levels: np.ndarray, scale: int) -> bytes:
    """The labels as bytes, in words of four, the lowest byte first.

    Args:
        levels: uint8 [C, M, C], of M samples of each class; those of a sample add up to the scale
            at most.
        scale: the level that stands for 1, from 1 to 255.

    Raises:
        InputError: the package that codes is not installed.
    """
    writer = _Writer(require_coder())
    _walk(levels.copy(), scale, writer)
    return writer.content()


def decode(stream: bytes, classes: int, per_class: int, scale: int) -> np.ndarray:
    """The levels uint8 [C, M, C] that `encode` was given; whatever follows them is ignored.

    Any other bytes give a refusal or other levels; what `entropy.check_of` says of them tells.

    Args:
        stream: what `encode` gave, a whole number of words.
        classes: C.
        per_class: M.
        scale: that of the encoding.

    Raises:
        ValueError: the stream is damaged.
        InputError: the package that decodes is not installed.
    """
    levels = np.zeros((classes, per_class, classes), dtype=np.uint8)
    if len(stream) % 4:
        raise ValueError("its soft labels are no whole number of words")
    try:
        _walk(levels, scale, _Reader(require_coder(), stream))
    except AssertionError:  # how the decoder says that the words are no stream of these models
        raise ValueError("its soft labels are damaged") from None
    return levels


class _Coder(Protocol):
    """Passes numbers through: a writer is given them, a reader finds them."""

    def pick(self, weights: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Symbols int32 [N] below 10, with the odds float64 [N, 10]."""

    def spread(self, counts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Numbers int32 [N], all alike, each below its count of two or more."""


class _Writer:
    def __init__(self, package: Any) -> None:
        self._models = package.stream.model
        self._encoder = package.stream.queue.RangeEncoder()

    def pick(self, weights: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        self._encoder.encode(symbols, self._models.Categorical(perfect=False), weights)
        return symbols

    def spread(self, counts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        self._encoder.encode(numbers, self._models.Uniform(), counts)
        return numbers

    def content(self) -> bytes:
        return self._encoder.get_compressed().astype("<u4").tobytes()


class _Reader:
    def __init__(self, package: Any, stream: bytes) -> None:
        self._models = package.stream.model
        words = np.frombuffer(stream, dtype="<u4").astype(np.uint32)
        self._decoder = package.stream.queue.RangeDecoder(words)

    def pick(self, weights: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        return self._decoder.decode(self._models.Categorical(perfect=False), weights)

    def spread(self, counts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return self._decoder.decode(self._models.Uniform(), counts)


def _walk(levels: np.ndarray, scale: int, coder: _Coder) -> None:
    """Passes all labels through, and fills in what is found.

    Samples go by in blocks, each a quarter as long as what came before it, within which nothing is
    learned.
    """
    classes, per_class, _ = levels.shape
    every = np.arange(classes)
    unsaid, others, single = (_Table(classes) for _ in range(3))
    start = 0
    while start < per_class:
        block = levels[:, start : start + max(1, start // 4)]
        numbers = block.astype(np.int32)
        left = np.full(block.shape[:2], scale, dtype=np.int32)
        left -= unsaid.through(coder, every, 0, left, scale - numbers.sum(2, dtype=np.int32))
        own, left = left, np.zeros_like(left)
        if classes > 1:
            left = others.through(coder, every, 0, own, own - numbers[every, :, every])
        block[every, :, every] = own - left
        for each in range(classes):
            rows = every[every != each]
            last = each == np.where(rows == classes - 1, classes - 2, classes - 1)
            found = left[rows]  # which is what the last one has
            asked = rows[~last]
            found[~last] = single.through(coder, asked, each, left[asked], numbers[asked, :, each])
            block[rows, :, each] = found
            left[rows] -= found
        for table in (unsaid, others, single):
            table.learn(block.shape[1])
        start += block.shape[1]


class _Table:
    """How often numbers of each size came up, by what was left and by the mean of those before."""

    def __init__(self, classes: int) -> None:
        self._samples = 0  # of each class
        self._sums = np.zeros((classes, classes), dtype=np.int64)  # by own class, and another
        self._counts = np.zeros((_SYMBOLS, _MEANS, _SYMBOLS), dtype=np.int64)
        self._first = np.stack([_first_guess(room) for room in range(_SYMBOLS)])
        self._new = np.zeros_like(self._counts)
        self.learn(0)

    def learn(self, samples: int) -> None:
        """Takes in what has come up since, in so many samples of each class."""
        self._samples += samples
        self._counts += self._new
        self._new[:] = 0
        known = self._first + _ONE * self._counts.sum(1)  # whatever the mean
        guess = 2 * _ONE * known // known.sum(1, keepdims=True) + 1
        self._weights = (guess[:, None] + _ONE * self._counts).astype(np.float64)

    def through(
        self, coder: _Coder, own: np.ndarray, other: int, left: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """Numbers int32 [R, m] from 0 to what is left, as the coder passes them through.

        Args:
            coder: a writer, or a reader, which looks at no numbers.
            own: int64 [R], classes of the samples.
            other: what they are about.
            left: int32 [R, m]; where it is 0, numbers are not coded.
            numbers: int32 [R, m].

        Raises:
            ValueError: a reader found a number above what is left.
        """
        means = _SIZES[_PARTS * self._sums[own, other] // max(self._samples, 1)]
        asked = left > 0
        found = np.zeros_like(left)
        means = np.broadcast_to(means[:, None], left.shape)[asked]
        if len(means):
            found[asked] = self._ask(coder, means, left[asked], numbers[asked])
        self._sums[own, other] += found.sum(1)
        return found

    def _ask(
        self, coder: _Coder, means: np.ndarray, left: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        room = _SIZES[left]
        symbols = np.where(numbers == left, _ALL, _SIZES[numbers])
        symbols = coder.pick(self._weights[room, means], symbols)
        np.add.at(self._new, (room, means, symbols), 1)
        all_of_it = symbols == _ALL
        lowest = (1 << np.where(all_of_it, 0, symbols)) >> 1
        counts = np.minimum(2 * lowest, left) - lowest
        if (lowest >= left).any():
            raise ValueError("a soft label of it is above the whole")
        found = np.where(all_of_it, left, lowest)
        several = counts > 1
        if several.any():
            rest = (numbers - lowest)[several]
            found[several] += coder.spread(counts[several], rest)
        return found


def _first_guess(room: int) -> np.ndarray:
    """Weights int64 [10] before anything is counted, where numbers of `room` bits are left."""
    guess = np.full(_SYMBOLS, _ONE // 256)
    guess[1 : room + 1] = _ONE // 4
    guess[_ALL] = _ONE // 2
    guess[0] = 2 * _ONE
    return guess
