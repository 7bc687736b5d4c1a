"""Makes levels fit the bytes that a file has for them, with the least error.

Where they take more, every level may become one smaller or zero. A price of a bit decides: the
dearer bits are, the more levels change. The search is for the lowest price at which they fit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencond_fast.store import law, level_coder
from gencond_fast.store.context import ContextModel
from gencond_fast.store.level_coder import Streams

_PART = 64  # images at a time
_PROBED = 2**21  # levels in which a price is tried
_TURNS = 12  # halvings of the range of prices, which spans so many doublings
_DOUBLINGS = 40
_CLOSER = 0.985  # of the room, each time that levels do not fit after all


class Fitted(NamedTuple):
    """Levels, and the streams that hold them.

    Attributes:
        streams: that fit.
        levels: int16, in them.
        whole: whether they are the nearest ones.
    """

    streams: Streams
    levels: Tensor
    whole: bool


@torch.no_grad()
def fit_levels(
    context: ContextModel, codes: Tensor, steps: Tensor, labels: Tensor, room: int
) -> Fitted | None:
    """Levels near the codes in so many bytes; None where levels that are all zero take more.

    Args:
        context: whose laws code them.
        codes: float32 [n, K, g, g], levels that need not be whole.
        steps: float32 [K], the size of a level of each band.
        labels: int64 [n].
        room: bytes.
    """
    levels = _whole(codes)
    streams = level_coder.encode(context, levels, labels)
    whole = _size_of(streams) <= room
    if not whole:
        nothing = level_coder.encode(context, torch.zeros_like(levels), labels)
        if _size_of(nothing) > room:
            return None
    wanted = float(room)
    while _size_of(streams) > room:
        if wanted < 0.5 * room:
            levels, streams = torch.zeros_like(levels), nothing
            break
        price = _lowest_price(context, codes, steps, labels, wanted)
        levels = _priced(context, codes, steps, labels, price)
        streams = level_coder.encode(context, levels, labels)
        wanted *= _CLOSER
    return Fitted(streams, levels, whole)


def _lowest_price(
    context: ContextModel, codes: Tensor, steps: Tensor, labels: Tensor, room: float
) -> float:
    """At which levels take so many bytes, judged by some of the samples."""
    count = min(len(codes), max(1, _PROBED // codes[0].numel()))
    some = torch.arange(count) * len(codes) // count
    codes, labels, room = codes[some], labels[some], room * count / len(codes)
    # a bit is at most worth the largest error there is
    low, high = -float(_DOUBLINGS), 0.0
    scale = float((codes.abs().amax((0, 2, 3)) * steps).square().max())
    for _ in range(_TURNS):
        middle = (low + high) / 2
        levels = _priced(context, codes, steps, labels, scale * 2.0**middle)
        if level_coder.size(context, levels, labels) > room:
            low = middle
        else:
            high = middle
    return scale * 2.0**high


def _priced(
    context: ContextModel, codes: Tensor, steps: Tensor, labels: Tensor, price: float
) -> Tensor:
    """The best of the nearest level, the next smaller one, and zero, each on its own: int16."""
    parts = []
    for part, owners in zip(codes.split(_PART), labels.split(_PART), strict=True):
        nearest = _whole(part).float()
        found = context(nearest, owners)
        best, least = nearest, torch.full_like(nearest, math.inf)
        for level in (nearest, nearest - nearest.sign(), torch.zeros_like(nearest)):
            error = ((level - part) * steps.view(-1, 1, 1)).square()
            cost = error + price * law.bits(level, found)
            best = torch.where(cost < least, level, best)
            least = torch.minimum(cost, least)
        parts.append(best.to(torch.int16))
    return torch.cat(parts)


def _whole(codes: Tensor) -> Tensor:
    return codes.clamp(-level_coder.LARGEST, level_coder.LARGEST).round().to(torch.int16)


def _size_of(streams: Streams) -> int:
    return len(streams.flags) + len(streams.values)
