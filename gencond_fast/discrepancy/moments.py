"""Distance between class means and standard deviations: diagonal Gaussian transport."""

from __future__ import annotations

from gencond_fast.discrepancy.mean import Mean


class Moments(Mean):
    """sum_c |mu_c^T - mu_c|^2 + |sigma_c^T - sigma_c|^2.

    This is W_2^2 between Gaussians with diagonal covariance (Dowson and Landau 1982). Variances
    are the unbiased ones; a class with one sample has none and is compared by its mean alone.
    """

    _std_weight = 1.0
