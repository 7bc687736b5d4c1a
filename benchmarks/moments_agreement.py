"""Whether rivals compute the same moments: against float64, by what float32 sums may be off."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.moments_providers import Problem, Provider
from benchmarks.peers.moments import Moments
from gencond_fast.functional import reference

# Rounding errors of a sum of n terms grow like sqrt(n), and exceed this multiple of it with a
# probability of 2 exp(-8^2 / 2), 3e-14 (Higham and Mary, "A new approach to probabilistic rounding
# error analysis", 2019).
_CONFIDENCE = 8.0
_ROUNDING = 2.0**-24


class Oracle:
    """The moments and their gradient in float64, and how far float32 may be from them.

    Args:
        problem: what is computed.
        upstream: the gradients of mean and m2, [C, D] each.
    """

    def __init__(self, problem: Problem, upstream: Moments) -> None:
        x, labels = problem.features.double(), problem.labels
        count, self._mean, self._m2 = reference.class_moments(x, labels, problem.classes)
        n = count.clamp(min=1).double().unsqueeze(1)
        zeros = torch.zeros_like(self._mean)
        magnitude = zeros.index_add(0, labels, x.abs()) / n
        squares = zeros.index_add(0, labels, x.square())
        # of a sum of n terms, next to the sum of their magnitudes; 4 more for what else is rounded
        share = _CONFIDENCE * (n.sqrt() + 4) * _ROUNDING
        self._mean_budget = share * magnitude
        # a mean that is off by e adds n e^2
        self._m2_budget = share * self._m2 + n * self._mean_budget.square()
        # sum x^2 is off by a share of itself, (sum x)^2 / n by two shares of what is no larger, and
        # so is their difference, however small
        self._cancelled_budget = share * 3 * squares

        grad_mean, grad_m2 = (table.double() for table in upstream)
        deviation = x - self._mean[labels]
        self._grad = (grad_mean / n)[labels] + 2 * grad_m2[labels] * deviation
        terms = (grad_mean / n).abs()[labels] + 2 * grad_m2.abs()[labels] * (
            x.abs() + self._mean.abs()[labels]
        )
        by_mean = (2 * grad_m2.abs() * self._mean_budget)[labels]
        self._grad_budget = _CONFIDENCE * 4 * _ROUNDING * terms + 2 * by_mean

    def check(self, name: str, provider: Provider, moments: Moments, grad: Tensor | None) -> None:
        """Raises AssertionError, naming the provider, for what is outside the budget."""
        m2_budget = self._cancelled_budget if provider.cancels else self._m2_budget
        _compare(name, "mean", moments[0], self._mean, self._mean_budget)
        _compare(name, "m2", moments[1], self._m2, m2_budget)
        if grad is not None:
            _compare(name, "gradient", grad, self._grad, self._grad_budget)


def _compare(name: str, what: str, found: Tensor, exact: Tensor, budget: Tensor) -> None:
    outside = ~((found.double() - exact).abs() <= budget)  # so that NaN is outside
    if outside.any():
        i, j = (int(k) for k in outside.nonzero()[0])
        raise AssertionError(
            f"{name}: {what}[{i}, {j}] is {float(found[i, j]):.9g} instead of "
            f"{float(exact[i, j]):.9g}, the budget is {float(budget[i, j]):.2e}."
        )
