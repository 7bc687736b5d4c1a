"""One class after the other, each on its own matrix of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def loop(features: Tensor, order: Tensor, sizes: list[int], kind: str, parameter: float) -> Tensor:
    """The intra-class loss; order holds the row numbers class after class, sizes how many each.

    Rows are taken once for all classes: taken class by class, each would have a gradient as large
    as all features.
    """
    groups = [x for x in features[order].split(sizes) if len(x) > 1]
    totals = [_TOTALS[kind](x, parameter) for x in groups]
    return torch.stack(totals).sum() / sum(_terms(kind, len(x)) for x in groups)


def one_class(x: Tensor, kind: str, parameter: float) -> Tensor:
    """The loss of rows that are all of one class."""
    return _TOTALS[kind](x, parameter) / _terms(kind, len(x))


def _terms(kind: str, n: int) -> int:
    return n * (n - 1) if kind in ("rbf", "hinge") else n


def _rbf(x: Tensor, sigma: float) -> Tensor:
    value = torch.exp(torch.cdist(x, x).square() / (-2 * sigma**2))
    return value.sum() - value.diagonal().sum()


def _hinge(x: Tensor, margin: float) -> Tensor:
    value = torch.relu(margin - torch.cdist(x, x)).square()
    return value.sum() - value.diagonal().sum()


def _infonce(x: Tensor, temperature: float) -> Tensor:
    logits = _other_cosines(x) / temperature
    return torch.logsumexp(logits, 1).sum() - len(x) * math.log(len(x) - 1)


def _nearest(x: Tensor, _: float) -> Tensor:
    return _other_cosines(x).amax(1).sum()


def _other_cosines(x: Tensor) -> Tensor:
    unit = F.normalize(x, dim=1)
    return (unit @ unit.T).fill_diagonal_(-torch.inf)


_TOTALS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "rbf": _rbf,
    "hinge": _hinge,
    "infonce": _infonce,
    "nearest": _nearest,
}
