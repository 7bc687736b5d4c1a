"""Codes all levels of a stored set under the laws of a context model.

Two streams: flags that say which levels are not zero, and the values of those. Both go band after
band and, within a band, over the anti-diagonals of blocks: what a law depends on has been decoded
by then, and all images are decoded side by side. The coder is the range coder of `constriction`.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gencond_fast.store import law
from gencond_fast.store.context import (
    RECENT,
    SEEN,
    ContextModel,
    assemble,
    sizes_of,
    values_of,
)
from gencond_fast.store.entropy import require_coder

LARGEST = int(law.EDGES[-1]) - 1
"""Levels lie in -LARGEST ... LARGEST."""
_IMAGES = 2048  # decoded side by side, which bounds memory
_PART = 64  # images whose laws are computed at a time


class Streams(NamedTuple):
    """Coded levels: bytes, in words of four.

    Attributes:
        flags: which levels are not zero.
        values: of those, and at the end what tells levels of one range apart.
        check: four bytes, by which damage is noticed.
    """

    flags: bytes
    values: bytes
    check: bytes


class _Laws(NamedTuple):
    """Parameters of laws as places in the tables: int64 arrays of one shape."""

    mean: np.ndarray
    scale: np.ndarray
    zero: np.ndarray


@torch.no_grad()
def size(model: ContextModel, levels: Tensor, labels: Tensor) -> float:
    """Bytes that `encode` gives for levels int16 [n, K, g, g], to within a few in a thousand."""
    total = 0.0
    for start in range(0, len(levels), _PART):
        part = levels[start : start + _PART]
        laws = _whole_laws(model, part, labels[start : start + _PART])
        symbols = part.numpy()
        coded, odds = symbols != 0, _flag_odds(laws)
        total -= float(np.log2(np.where(coded, odds, 1.0 - odds)).sum())
        place, many = _ranges(symbols[coded])
        odds = _value_odds(_Laws(*(each[coded] for each in laws)))
        chosen = np.take_along_axis(odds, place[:, None], 1)
        total += float((np.log2(many) - np.log2(chosen, dtype=np.float64)[:, 0]).sum())
    return total / 8


@torch.no_grad()
def encode(model: ContextModel, levels: Tensor, labels: Tensor) -> Streams:
    """The streams of levels.

    Args:
        model: whose weights the decoder will have.
        levels: int16 [n, K, g, g], within LARGEST.
        labels: int64 [n].

    Raises:
        InputError: the package that codes is not installed.
    """
    coder = require_coder()
    flags, values = coder.stream.queue.RangeEncoder(), coder.stream.queue.RangeEncoder()
    flag_model, value_model = _models(coder)
    order, wide = _order(levels.shape[-1]), []
    for start in range(0, len(levels), _IMAGES):
        chunk, owners = levels[start : start + _IMAGES], labels[start : start + _IMAGES]
        laws = [
            _whole_laws(model, chunk[i : i + _PART], owners[i : i + _PART])
            for i in range(0, len(chunk), _PART)
        ]
        together = _Laws(*(np.concatenate(each) for each in zip(*laws, strict=True)))
        laid_out = _Laws(*(_lay_out(each, order) for each in together))
        symbols = _lay_out(chunk.numpy(), order)
        flags.encode((symbols != 0).astype(np.int32), flag_model, _flag_odds(laid_out))
        coded = symbols != 0
        laid_out = _Laws(*(each[coded] for each in laid_out))
        place, _ = _ranges(symbols[coded])
        values.encode(place, value_model, _value_odds(laid_out))
        wide.append(_offsets(symbols[coded]))
    for offsets, many in wide:
        if len(offsets):
            values.encode(offsets, coder.stream.model.Uniform(), many)
    return Streams(_bytes(flags), _bytes(values), _check_of(levels))


@torch.no_grad()
def decode(model: ContextModel, streams: Streams, labels: Tensor, grid: int) -> Tensor:
    """The levels int16 [n, K, grid, grid] that `encode` was given.

    Args:
        model: with the weights of the encoding.
        streams: what `encode` gave; what follows in them is ignored.
        labels: int64 [n], those of the encoding.
        grid: blocks in a row.

    Raises:
        ValueError: the streams are damaged.
        InputError: the package that decodes is not installed.
    """
    coder = require_coder()
    flags, values = (
        coder.stream.queue.RangeDecoder(np.frombuffer(each, dtype="<u4").astype(np.uint32))
        for each in streams[:2]
    )
    readers = _Readers(flags, values, *_models(coder))
    try:
        parts = [
            _decode_part(model, readers, labels[start : start + _IMAGES], grid)
            for start in range(0, len(labels), _IMAGES)
        ]
        levels = torch.cat(parts).to(torch.int16)
        _add_offsets(levels, values, coder)
    except AssertionError:  # how the decoder says that the words are no stream of these models
        raise ValueError("its codes are damaged") from None
    if _check_of(levels) != streams.check:
        raise ValueError("its codes do not come out as they were put in")
    return levels


class _Readers(NamedTuple):
    """Both streams, and the families of models that they are read with."""

    flags: Any
    values: Any
    flag_model: Any
    value_model: Any

    def wave(self, laws: _Laws) -> np.ndarray:
        """Levels of laws [p, n], each the first one of its range: float32."""
        shape = laws.mean.shape
        laws = _Laws(*(each.ravel() for each in laws))
        coded = self.flags.decode(self.flag_model, _flag_odds(laws)) != 0
        found = np.zeros(len(coded), dtype=np.float32)
        if coded.any():
            odds = _value_odds(_Laws(*(each[coded] for each in laws)))
            place = self.values.decode(self.value_model, odds)
            found[coded] = np.where(place < law.RANGES, -1.0, 1.0) * law.EDGES[place % law.RANGES]
        return found.reshape(shape)


def _decode_part(model: ContextModel, readers: _Readers, labels: Tensor, grid: int) -> Tensor:
    count, bands = len(labels), len(model.band.value)
    # one more band, of zeros, for levels that have no related one
    levels, sizes = torch.zeros(2, bands + 1, count, 1, grid, grid)
    totals = torch.zeros(bands + 1, count, 1, grid, grid)
    for band in range(bands):
        near = model.related[:, band].tolist()
        features = assemble(
            [sizes[each] for each in near],
            values_of(levels[near[6]]),
            totals[band],
            totals[max(0, band - RECENT)],
            model.rates[band : band + 1],
        )
        sums = model.first_sums(features, labels, band)[:, 0]
        own = torch.zeros(2, count, grid + 1, grid + 2)  # sizes and values, with an edge of zeros
        for rows, columns in _waves(grid):
            around = [own[0, :, 1 + rows + down, 1 + columns + along] for down, along in SEEN]
            around += [own[1, :, 1 + rows + down, 1 + columns + along] for down, along in SEEN[:3]]
            laws = model.law_of(sums[:, rows, columns], torch.stack(around, -1), band)
            places = _Laws(*(each.T.contiguous().numpy() for each in _places(laws)))
            found = torch.from_numpy(readers.wave(places)).T
            levels[band, :, 0, rows, columns] = found
            own[0, :, 1 + rows, 1 + columns] = sizes_of(found)
            own[1, :, 1 + rows, 1 + columns] = values_of(found)
        sizes[band, :, 0] = own[0, :, 1:, 1:-1]
        totals[band + 1] = totals[band] + sizes[band]
    return levels[:bands, :, 0].transpose(0, 1)


def _add_offsets(levels: Tensor, values: Any, coder: Any) -> None:
    """Moves levels, in place, from the first of their range to what they are."""
    order = _order(levels.shape[-1])
    for start in range(0, len(levels), _IMAGES):
        chunk = levels[start : start + _IMAGES]
        symbols = _lay_out(chunk.numpy(), order)
        _, many = _ranges(symbols)
        wide = np.flatnonzero(many > 1)
        if len(wide):
            offsets = values.decode(coder.stream.model.Uniform(), many[wide].astype(np.int32))
            symbols[wide] += (np.sign(symbols[wide]) * offsets).astype(symbols.dtype)
            chunk.copy_(torch.from_numpy(_put_back(symbols, chunk.shape, order)))


def _whole_laws(model: ContextModel, levels: Tensor, labels: Tensor) -> _Laws:
    return _Laws(*(each.numpy() for each in _places(model(levels.float(), labels))))


def _places(found: law.Law) -> list[Tensor]:
    """Where laws lie in the tables."""
    steps = (law.MEAN_STEP, law.SCALE_STEP, law.ZERO_STEP)
    most = (law.MOST_MEAN, law.MOST_SCALE, law.MOST_ZERO)
    return [
        (value / step + 0.5).floor().clamp(-bound, bound).long() + bound
        for value, step, bound in zip(found, steps, most, strict=True)
    ]


def _flag_odds(laws: _Laws) -> np.ndarray:
    return law.flag_table()[laws.mean, laws.scale, laws.zero]


def _value_odds(laws: _Laws) -> np.ndarray:
    return law.value_table()[laws.mean, laws.scale]


def _ranges(symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For levels the place of their range in a row of the table, and how many levels it holds."""
    place = np.searchsorted(law.EDGES, np.abs(symbols), side="right") - 1
    many = np.diff(law.EDGES)[np.maximum(place, 0)]
    return (place + law.RANGES * (symbols > 0)).astype(np.int32), np.where(symbols, many, 1)


def _offsets(symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What tells those of wide ranges apart: int32 offsets, and how many levels there are."""
    place, many = _ranges(symbols)
    wide = many > 1
    offsets = np.abs(symbols[wide]) - law.EDGES[place[wide] % law.RANGES]
    return offsets.astype(np.int32), many[wide].astype(np.int32)


def _waves(grid: int) -> list[tuple[Tensor, Tensor]]:
    """Rows and columns of blocks that can be decoded together, in order.

    A block waits for the one to its left and for the one above and to the right of it.
    """
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    time = columns + 2 * rows
    together = [time == each for each in range(3 * grid - 2)]
    return [(rows[chosen], columns[chosen]) for chosen in together]


def _order(grid: int) -> np.ndarray:
    """Numbers of the blocks in the order of coding."""
    return torch.cat([rows * grid + columns for rows, columns in _waves(grid)]).numpy()


def _lay_out(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[n, K, g, g] in the order of coding: band, block, image."""
    return values.reshape(*values.shape[:2], -1)[:, :, order].transpose(1, 2, 0).ravel()


def _put_back(values: np.ndarray, shape: tuple[int, ...], order: np.ndarray) -> np.ndarray:
    """The opposite of `_lay_out`."""
    result = np.empty((shape[0], shape[1], len(order)), dtype=values.dtype)
    result[:, :, order] = values.reshape(shape[1], len(order), shape[0]).transpose(2, 0, 1)
    return result.reshape(shape)


def _check_of(levels: Tensor) -> bytes:
    return zlib.crc32(np.ascontiguousarray(levels.numpy(), dtype="<i2").data).to_bytes(4, "big")


def _models(coder: Any) -> tuple[Any, Any]:
    # the fast way to fixed point; the other one may change what is written
    model = coder.stream.model
    return model.Bernoulli(perfect=False), model.Categorical(perfect=False)


def _bytes(encoder: Any) -> bytes:
    return encoder.get_compressed().astype("<u4").tobytes()
