"""Distance from the statistics that a network's batch norms remember: SRe2L (2306.13092)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real
from gencond_fast.functional.batchnorm import batchnorm_matching_loss
from gencond_fast.models.classifier import batch_norms

_FIRST = 10.0  # the weight of the first layer in the authors' code


class BatchNorm(Discrepancy):
    """C sum_l w_l (|mean_l - running mean_l| + |variance_l - running variance_l|).

    Mean and variance are those of the whole batch before batch norm l, w is 10 for the first layer
    and 1 for the others. The classes are not told apart, hence the factor: the average over
    classes is the published sum. The cross-entropy beside it in SRe2L is that of
    `losses.cross_entropy`. Networks that have seen no data remember nothing.
    """

    needs_trained: ClassVar[bool] = True
    needs_batchnorm: ClassVar[bool] = True

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        norms = [] if real.network is None else batch_norms(real.network.classifier)
        if not norms:
            raise ValueError("batchnorm: prepare needs a network with batch norms.")
        self._means, self._variances = zip(
            *((norm.running_mean, norm.running_var) for norm in norms), strict=True
        )
        self._classes = len(real.moments.count)

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        weights = [_FIRST] + [1.0] * (len(self._means) - 1)
        distance = batchnorm_matching_loss(
            generated.normed, self._means, self._variances, weights=weights
        )
        return self._classes * distance
