"""Distance between class means, the discrepancy of DM (2110.04181, eq. 4)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real
from gencond_fast.functional.moment_formulas import moment_distance


class Mean(Discrepancy):
    """sum_c |mu_c^T - mu_c|^2 over the *stored* set, estimated without bias from a draw of it.

    For n of N stored samples drawn without replacement, E|mu_n - t|^2 = |mu - t|^2 +
    (1 - n/N) s^2/n with the sample variance s^2 (Cochran, Sampling Techniques, theorem 2.2).
    Leaving the second part in would pull the samples of a class together.
    """

    _std_weight: ClassVar[float] = 0.0

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        self._real = real.moments

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        # on the moments that all discrepancies share, for which the features were read once
        return moment_distance(
            generated.moments.tables,
            self._real.tables,
            mean_weight=1.0,
            std_weight=self._std_weight,
            stored=generated.stored,
        )
