"""Distance between class means, the discrepancy of DM (2110.04181, eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real


class Mean(Discrepancy):
    """sum_c |mu_c^T - mu_c|^2 over the *stored* set, estimated without bias from a draw of it.

    For n of N stored samples drawn without replacement, E|mu_n - t|^2 = |mu - t|^2 +
    (1 - n/N) s^2/n with the sample variance s^2 (Cochran, Sampling Techniques, theorem 2.2).
    Leaving the second part in would pull the samples of a class together.
    """

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        self._real = real.moments

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        both = (self._real.count > 0) & (generated.moments.count > 0)
        distance = (generated.moments.mean - self._real.mean).square().sum(1)
        return torch.where(both, distance - draw_variance(generated), 0.0).sum()


def draw_variance(generated: Generated) -> Tensor:
    """[C]: variance of a class mean that comes from drawing only part of the stored samples."""
    count = generated.moments.count.to(generated.moments.m2.dtype)
    share = (1.0 - count / generated.stored) / (count * (count - 1)).clamp(min=1)
    return generated.moments.m2.sum(1) * share * (count > 1)
