"""Distance between the log-probabilities of trained networks: DiM (2303.04707)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real
from gencond_fast.discrepancy.stack import labels_of
from gencond_fast.functional.moments import ClassMoments, class_moments


class Logit(Discrepancy):
    """sum_c mean |log p(s) - log p(t)|^2 / K over all pairs of s generated and t real of class c.

    log p are the log-probabilities of the network for its K outputs. The authors' code draws
    pairs of a class at random; this is the expectation of theirs. It equals |mean_s - mean_t|^2 +
    var_s + var_t, so that the samples of a class are drawn together, towards the mean of the real
    ones.
    """

    needs_samples: ClassVar[bool] = True
    needs_trained: ClassVar[bool] = True

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        if real.samples is None or real.network is None:
            raise ValueError("logit: prepare needs samples of the real classes and a network.")
        self._network = real.network
        samples = real.samples
        with torch.no_grad():
            self._real = self._moments(
                samples.features, labels_of(samples.counts, samples.features.device)
            )

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        made, true = self._moments(generated.features, generated.labels), self._real
        square = (made.mean - true.mean).square() + made.variance() + true.variance()
        both = (made.count > 0) & (true.count > 0)
        return torch.where(both, square.mean(1), 0.0).sum()

    def _moments(self, features: Tensor, labels: Tensor) -> ClassMoments:
        with torch.autocast(features.device.type, enabled=False):
            columns = F.log_softmax(self._network.logits(features), dim=1)
        return class_moments(columns, labels, len(self._network.outputs))
