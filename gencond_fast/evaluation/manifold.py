"""How generated features lie among real ones: precision, recall, density, coverage.

Both sets stand for manifolds made of balls: one around each feature, up to its k-th nearest
neighbour in the same set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 2048
_ROUNDING = 1e-12  # of the squared lengths of two features: what a distance is known to


@dataclass(frozen=True)
class ManifoldScores:
    """Fractions in [0, 1], but for density.

    Attributes:
        precision: of the generated samples, those within a ball of a real one (1904.06991).
        recall: of the real samples, those within a ball of a generated one (ibidem).
        density: in how many balls of real samples a generated one lies on average, over k; 1 where
            both have one distribution, and it may be more (2002.09797).
        coverage: of the real samples, those with a generated one in their ball (ibidem).
    """

    precision: float
    recall: float
    density: float
    coverage: float


@torch.no_grad()
def manifold_scores(
    real: Tensor, generated: Tensor, *, k: int = 5, block: int = _BLOCK
) -> ManifoldScores:
    """Compares two sets of features; no matrix is larger than `block` x `block` or x D.

    Distances are Euclidean, from products in float64 around the mean of the real features. Balls
    are closed: a distance that differs from a radius by rounding alone counts as within.

    Args:
        real: [N, D] of any float dtype.
        generated: [M, D], on the same device.
        k: k, fewer than N and than M.
        block: samples of either set at a time.

    Returns:
        The scores; all NaN if a feature is not finite.

    Raises:
        ValueError: a shape does not fit, or k or the block is out of range.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"manifold_scores: features must be [N, D] and [M, D], not {list(real.shape)} and "
            f"{list(generated.shape)}."
        )
    if not 1 <= k < min(len(real), len(generated)):
        raise ValueError(
            f"manifold_scores: k must be in 1 ... {min(len(real), len(generated)) - 1}, "
            f"one less than the smaller set has samples, not {k}."
        )
    if block < 1:
        raise ValueError(f"manifold_scores: block must be positive, not {block}.")
    centre = real.mean(0, dtype=torch.float64)
    if not (real.isfinite().all() and generated.isfinite().all()):
        return ManifoldScores(*4 * (float("nan"),))
    x, y = real.double() - centre, generated.double() - centre
    around_x, around_y = (_squared_radii(each, k, block) for each in (x, y))
    precise, recalled = y.new_zeros(len(y), dtype=torch.bool), x.new_zeros(len(x), dtype=torch.bool)
    covered, balls = recalled.clone(), 0
    for rows in _slices(len(x), block):
        for columns in _slices(len(y), block):
            distances, error = _squared_distances(x[rows], y[columns])
            in_real = distances <= around_x[rows, None] + error
            precise[columns] |= in_real.any(0)
            covered[rows] |= in_real.any(1)
            recalled[rows] |= (distances <= around_y[columns] + error).any(1)
            balls += int(in_real.sum())
    return ManifoldScores(
        precision=float(precise.double().mean()),
        recall=float(recalled.double().mean()),
        density=balls / (k * len(y)),
        coverage=float(covered.double().mean()),
    )


def _squared_radii(features: Tensor, k: int, block: int) -> Tensor:
    """The squared distance of each of [N, D] to its k-th nearest neighbour: [N]."""
    found = []
    for rows in _slices(len(features), block):
        own = features[rows]
        best = own.new_full((len(own), k), torch.inf)
        for columns in _slices(len(features), block):
            distances, _ = _squared_distances(own, features[columns])
            if rows == columns:
                distances.fill_diagonal_(torch.inf)  # no sample is its own neighbour
            best = torch.cat((best, distances), 1).topk(k, largest=False).values
        found.append(best.amax(1))
    return torch.cat(found)


def _squared_distances(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Between rows [n, D] and [m, D], and what rounding may have added to each: [n, m] both."""
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(lengths, a, b.T, alpha=-2.0).clamp_(min=0.0), _ROUNDING * lengths


def _slices(length: int, block: int) -> Iterator[slice]:
    return (slice(start, min(start + block, length)) for start in range(0, length, block))
