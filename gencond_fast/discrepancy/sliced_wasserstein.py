"""Sliced Wasserstein distance, the transport regime of 2509.10367 (Bonneel et al. 2015)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real
from gencond_fast.discrepancy.stack import labels_of, stack
from gencond_fast.system.upload import upload

_PROJECTIONS = 128


class SlicedWasserstein(Discrepancy):
    """D sum_c mean_p W_2^2 of the generated and real samples of class c, projected onto a line.

    The directions p are uniform on the sphere, drawn anew in every step. In one dimension W_2^2 is
    the integral over u in 0 ... 1 of the squared difference of the quantile functions, here exact
    for any two numbers of samples. A direction sees 1/D of a squared distance, hence the factor:
    far apart classes then weigh as much as in `Mean`.

    Args:
        projections: directions in a step.

    Raises:
        ValueError: there are none.
    """

    needs_samples: ClassVar[bool] = True

    def __init__(self, projections: int = _PROJECTIONS) -> None:
        if projections < 1:
            raise ValueError(f"sliced_wasserstein: projections must be positive, got {projections}")
        self._projections = projections

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        if real.samples is None:
            raise ValueError("sliced_wasserstein: prepare needs samples of the real classes.")
        self._real = real.samples
        width = real.samples.features.shape[1]
        directions = torch.randn(width, self._projections, generator=real.samples.rng)
        directions = directions / directions.norm(dim=0).clamp(min=1e-30)
        self._directions = upload(directions, real.samples.features.device).to(
            real.samples.features
        )

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        real, classes = self._real, len(self._real.counts)
        labels = labels_of(real.counts, real.features.device)
        with torch.autocast(real.features.device.type, enabled=False):
            made = generated.features @ self._directions
            true = real.features @ self._directions
        distance = _transport(
            *stack(made, generated.labels, classes, generated.most),
            *stack(true, labels, classes, max(real.counts, default=0)),
        )
        return self._directions.shape[0] * distance.mean(1).sum()


def _transport(made: Tensor, made_there: Tensor, true: Tensor, true_there: Tensor) -> Tensor:
    """W_2^2 [C, P] of samples [C, n, P] and [C, m, P]; 0 where a side has none."""
    n, m = made_there.sum(1, keepdim=True), true_there.sum(1, keepdim=True)
    both = (n > 0) & (m > 0)
    if not made.shape[1] or not true.shape[1]:
        return made.new_zeros(made.shape[0], made.shape[2])
    edges = torch.cat((_edges(made_there, n), _edges(true_there, m)), 1).sort(1).values
    length = edges.diff(dim=1, prepend=edges.new_zeros(len(edges), 1))
    middle = edges - length / 2
    ordered = (_quantiles(made, made_there, middle, n), _quantiles(true, true_there, middle, m))
    square = (ordered[0] - ordered[1]).square()
    share = torch.where(both, length, 0.0).to(square.dtype)
    return (share[:, :, None] * square).sum(1)


def _edges(there: Tensor, count: Tensor) -> Tensor:
    """Where a quantile function steps, 1/n, 2/n ... 1, and then 1 again for places with no one."""
    place = torch.arange(1, there.shape[1] + 1, device=there.device)
    return (place.double() / count.clamp(min=1)).clamp(max=1.0)


def _quantiles(values: Tensor, there: Tensor, at: Tensor, count: Tensor) -> Tensor:
    """The quantile functions [C, L, P] of values [C, n, P] at u [C, L]."""
    ordered = torch.where(there[:, :, None], values, torch.inf).sort(1).values
    ordered = torch.where(there[:, :, None], ordered, 0.0)
    place = torch.minimum((at * count).long(), (count - 1).clamp(min=0))
    return ordered.take_along_dim(place[:, :, None], 1)
