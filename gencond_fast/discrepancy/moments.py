"""Distance between class means and standard deviations: diagonal Gaussian transport."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.discrepancy.base import Generated
from gencond_fast.discrepancy.mean import Mean


class Moments(Mean):
    """sum_c |mu_c^T - mu_c|^2 + |sigma_c^T - sigma_c|^2.

    This is W_2^2 between Gaussians with diagonal covariance (Dowson and Landau 1982). Variances
    are the unbiased ones; a class with one sample has none and is compared by its mean alone.
    """

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        both = (self._real.count > 1) & (generated.moments.count > 1)
        difference = _deviation(generated.moments.variance(ddof=1)) - _deviation(
            self._real.variance(ddof=1)
        )
        spread = torch.where(both, difference.square().sum(1), 0.0).sum()
        return super().loss(generated) + spread


def _deviation(variance: Tensor) -> Tensor:
    """Square root with gradient 0 at 0."""
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)
