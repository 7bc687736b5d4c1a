"""KeOps: symbolic pairs, block-diagonal by ranges, O(N) memory."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Blocks(NamedTuple):
    """Classes as blocks of sorted rows.

    Attributes:
        order: [N] int64, row numbers class after class, without rows that are alone in theirs.
        ranges: the block-diagonal pattern, as `LazyTensor.ranges` wants it.
        sizes: [N] float32, how many rows the class of each sorted row has.
    """

    order: Tensor
    ranges: tuple[Tensor, ...]
    sizes: Tensor


def blocks(order: Tensor, counts: Tensor) -> Blocks:
    """Blocks of rows that are sorted by class; counts [C] says how many each class has."""
    several = counts > 1
    order = order[several.repeat_interleave(counts)]
    counts = counts[several]
    ends = counts.cumsum(0)
    rows = torch.stack([ends - counts, ends], 1).int()
    slices = torch.arange(1, len(counts) + 1, device=rows.device).int()
    pattern = (rows, slices, rows, rows, slices, rows)
    return Blocks(order, pattern, counts.repeat_interleave(counts).float())


def keops(features: Tensor, blocks: Blocks, kind: str, parameter: float) -> Tensor:
    """The intra-class loss."""
    x = features[blocks.order]
    if kind in ("infonce", "nearest"):
        return _of_cosines(F.normalize(x, dim=1), blocks, kind, parameter)
    # the pairs are symmetric: the gradient of one side, twice, is that of both
    square = _pairs(x, x.detach(), blocks).sum(-1)
    if kind == "rbf":
        value, itself = (square / (-2 * parameter**2)).exp(), 1.0
    else:
        value, itself = (parameter - square.sqrt()).relu().square(), parameter**2
    total = value.sum(1).sum() - itself * len(x)
    return (2 * total - total.detach()) / (blocks.sizes - 1).sum()


def _of_cosines(unit: Tensor, blocks: Blocks, kind: str, temperature: float) -> Tensor:
    number = torch.arange(len(unit), device=unit.device, dtype=unit.dtype).unsqueeze(1)
    itself = (0.5 - _pairs(number, number, blocks).sum(-1)).step()
    cosine = 1 - _pairs(unit, unit, blocks).sum(-1) / 2 - 1e4 * itself
    if kind == "infonce":
        lse = (cosine / temperature).logsumexp(1).squeeze(1)
        return (lse - (blocks.sizes - 1).to(lse.dtype).log()).mean()
    nearest = cosine.argmax(1).squeeze(1)
    return (unit * unit[nearest]).sum(1).mean()


def _pairs(x: Tensor, y: Tensor, blocks: Blocks) -> Any:
    lazy = _lazy_tensor()
    square = (lazy(x.unsqueeze(1).contiguous()) - lazy(y.unsqueeze(0).contiguous())) ** 2
    square.ranges = blocks.ranges
    return square


@cache
def _lazy_tensor() -> Any:
    return importlib.import_module("pykeops.torch").LazyTensor
