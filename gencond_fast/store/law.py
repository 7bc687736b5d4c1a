"""How probable a level is: a logistic law with a mass of its own at zero, on a grid of parameters.

A level q is 0 with probability w + (1 - w) L(0), else it is k with (1 - w) L(k), where L(k) is what
a logistic distribution of mean m and scale s has within half a step of k. What is coded needs the
same probabilities on every machine. So m, log s and the logit of w are whole numbers of steps, and
tables hold the rest, computed from products and sums in double precision alone.

Levels are coded as a flag (zero or not) and, where not zero, a value: one of 2 * 22 ranges, of
which those above 15 hold several levels, that are told apart by plain bits.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MEAN_STEP, SCALE_STEP, ZERO_STEP = 1 / 4, 1 / 8, 1 / 4
MOST_MEAN, MOST_SCALE, MOST_ZERO = 60, 32, 32  # steps either side
ZERO_SHIFT = -2.0  # logit of w where its number is 0
_LEAST = 1e-9  # probability of a range
_LEAST_MASS = 1e-6  # of a level, as training sees it
_LOG_2 = 0.6931471805599453
_EXACT, _DOUBLINGS = 15, 7
# the first size of each range, and the first one behind the last: 1, 2 ... 16, 24, 40, ... 1032
EDGES = np.array(
    [*range(1, _EXACT + 2), *(16 + 8 * (2**place - 1) for place in range(1, _DOUBLINGS + 1))]
)
RANGES = len(EDGES) - 1


class Law(NamedTuple):
    """Parameters of levels, of one shape.

    Attributes:
        mean: m, in levels.
        log_scale: log s.
        zero: the logit of w, less ZERO_SHIFT.
    """

    mean: Tensor
    log_scale: Tensor
    zero: Tensor


def bits(levels: Tensor, law: Law) -> Tensor:
    """Code lengths of levels, whole or not, with gradients to levels and parameters.

    Args:
        levels: float, of any shape.
        law: of the same shape.
    """
    scale = law.log_scale.clamp(-MOST_SCALE * SCALE_STEP, MOST_SCALE * SCALE_STEP).exp()
    side = torch.where(levels > law.mean, -1.0, 1.0)  # the tail where a sigmoid keeps its digits
    upper = torch.sigmoid(side * (levels + 0.5 - law.mean) / scale)
    lower = torch.sigmoid(side * (levels - 0.5 - law.mean) / scale)
    share = torch.sigmoid(law.zero + ZERO_SHIFT)
    mass = (1 - share) * (upper - lower).abs() + share * (1 - levels.abs()).clamp(min=0)
    return -mass.clamp(min=_LEAST_MASS).log2()


def best_of_bands(levels: Tensor) -> tuple[Tensor, float]:
    """The laws of mean 0 under which the levels of each band are shortest, and their bytes.

    Args:
        levels: whole [n, K, ...].

    Returns:
        The log s and the logit of each band, float32 [K, 2]; and what all bands take together.
    """
    counts = _counts(levels.transpose(0, 1).flatten(1))
    flag, values = -np.log2(flag_table()[MOST_MEAN]), -np.log2(value_table()[MOST_MEAN])
    no_flag = -np.log2(1.0 - flag_table()[MOST_MEAN])
    zeros, others = counts[:, :1, None], counts[:, 1:]
    bits = zeros * no_flag + others.sum(1)[:, None, None] * flag + (others @ values.T)[:, :, None]
    flat = bits.reshape(len(bits), -1)
    scale, zero = np.divmod(flat.argmin(1), flag.shape[1])
    best = np.stack(((scale - MOST_SCALE) * SCALE_STEP, (zero - MOST_ZERO) * ZERO_STEP), 1)
    plain = float((counts[:, 1:] @ np.tile(np.log2(np.diff(EDGES)), 2)).sum())
    return torch.from_numpy(best).float(), (float(flat.min(1).sum()) + plain) / 8


def _counts(levels: Tensor) -> np.ndarray:
    """Of levels [K, m], how many are zero and how many lie in each range: [K, 1 + 2 * RANGES]."""
    edges = torch.from_numpy(EDGES).to(levels)
    place = torch.bucketize(levels.abs().contiguous(), edges, right=True) - 1
    symbol = torch.where(levels == 0, 0, 1 + place.clamp(0, RANGES - 1) + RANGES * (levels > 0))
    width = 1 + 2 * RANGES
    row = width * torch.arange(len(levels), device=levels.device)[:, None]
    counts = torch.bincount((row + symbol).flatten(), minlength=width * len(levels))
    return counts.view(-1, width).double().cpu().numpy()


def flag_table() -> np.ndarray:
    """P(level is not 0): float64 [means, scales, zeros], each index from its least number on."""
    return _tables()[0]


def value_table() -> np.ndarray:
    """P(range | level is not 0): float32 [means, scales, 2 * RANGES], -1 ... first, then 1 ...."""
    return _tables()[1]


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    mean = (np.arange(-MOST_MEAN, MOST_MEAN + 1) * MEAN_STEP)[:, None]
    scale = exact_exp(np.arange(-MOST_SCALE, MOST_SCALE + 1) * SCALE_STEP)
    zero = exact_exp(-(np.arange(-MOST_ZERO, MOST_ZERO + 1) * ZERO_STEP + ZERO_SHIFT))
    share = 1.0 / (1.0 + zero)
    at_zero = _mass(-0.5, 0.5, mean, scale)[..., None]
    flag = (1.0 - share) * (1.0 - at_zero)
    ranges = [(low - 0.5, high - 0.5) for low, high in zip(EDGES[:-1], EDGES[1:], strict=True)]
    values = [_mass(-high, -low, mean, scale) for low, high in ranges]
    values += [_mass(low, high, mean, scale) for low, high in ranges]
    table = np.maximum(np.stack(values, -1), _LEAST)
    table /= np.cumsum(table, -1)[..., -1:]
    return flag, table.astype(np.float32)


def _mass(low: float, high: float, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Of a logistic law between two places: [means, scales]."""
    # by the tail where the digits are
    side = np.where(mean < (low + high) / 2, -1.0, 1.0)
    upper, lower = (_sigmoid(side * (edge - mean) / scale) for edge in (high, low))
    return np.abs(upper - lower)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = exact_exp(-np.abs(x))
    return np.where(x < 0, small / (1.0 + small), 1.0 / (1.0 + small))


def exact_exp(x: np.ndarray) -> np.ndarray:
    """e^x with the same bits everywhere: libraries of mathematics differ in the last one."""
    x = np.clip(np.asarray(x, dtype=np.float64), -700.0, 700.0)
    doublings = np.rint(x * (1.0 / _LOG_2))
    rest = x - doublings * _LOG_2
    total = np.ones_like(rest)
    for place in range(18, 0, -1):
        total = 1.0 + total * rest / place
    return np.ldexp(total, doublings.astype(np.int32))
