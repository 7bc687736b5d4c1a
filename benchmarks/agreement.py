"""Whether rivals compute the same: against float64, by the error of a plain rival."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cost import Cost, cost_of_matrices
from benchmarks.peers.centres import class_means, index_add
from benchmarks.peers.loop import loop
from benchmarks.peers.padded import Padding, padded
from benchmarks.precision import ROUNDING, Precision
from benchmarks.problem import Problem
from benchmarks.providers import OURS, Provider

UPSTREAM = 0.7


class Error(NamedTuple):
    """The largest differences from the oracle, of the loss and of an entry of the gradient.

    Both are relative: the loss to what it is made of, the gradient to its largest entry.
    """

    loss: float
    grad: float


def check_agreement(problem: Problem, providers: Mapping[str, Provider]) -> None:
    """Compares the loss and the gradient of every provider with a plain rival in float64.

    The budget of ours is twice the error of an eager rival of the same precision, and one rounding.
    Compiled rivals exceed that, and get three times the error and four roundings. Loss and gradient
    share it, because the error of a single number may be small by luck.

    Raises:
        AssertionError: a provider is outside the budget; the message names it.
    """
    exact = _run(_plain(problem, "float32"), problem.features.double())
    comparable = cache(partial(_comparable, problem))

    def error(provider: Provider) -> Error:
        found = _run(provider, problem.features)
        rows = comparable(provider.precision).unsqueeze(1)
        # the maximum lets NaN through
        grad = torch.where(rows, found[1] - exact[1], 0.0).abs().max()
        loss = (found[0] - exact[0]).abs() / _scale(problem, exact[0])
        return Error(float(loss), float(grad / exact[1].abs().max()))

    @cache
    def plain_error(precision: Precision) -> float:
        return max(error(_plain(problem, precision)))

    def budget(name: str, precision: Precision) -> float:
        times, roundings = (2, 1) if name.startswith(OURS) else (3, 4)
        return times * plain_error(precision) + roundings * ROUNDING[precision]

    for name, provider in providers.items():
        allowed = budget(name, provider.precision)
        for what, found in error(provider)._asdict().items():
            if not found <= allowed:  # so that NaN is outside
                raise AssertionError(
                    f"{name}: the {what} of {problem.kind} is off by {found:.2e}, "
                    f"the budget is {allowed:.2e}."
                )


def cost_of_check(problem: Problem) -> Cost:
    """The estimate of the float64 oracle."""
    plain = cost_of_matrices(problem, backward=True, padded=False, compiled=False, loop=True)
    return Cost(2 * plain.operations, 2 * plain.held, 2 * plain.moved, plain.seconds)


def _run(provider: Provider, features: Tensor) -> tuple[Tensor, Tensor]:
    leaf = features.detach().requires_grad_()
    loss, grad = provider.forward_backward(leaf, leaf.new_tensor(UPSTREAM))
    return loss.double(), grad.double()


def _plain(problem: Problem, precision: Precision) -> Provider:
    """What a rival that nobody suspects computes."""
    kind, parameter = problem.pair_kind, problem.parameter
    counts = problem.counts.to(problem.labels.device)

    def loss(x: Tensor) -> Tensor:
        if precision == "bf16" and problem.inter:
            means = class_means(x, problem.labels, counts)
            everything = torch.ones_like(counts, dtype=torch.bool).unsqueeze(0)
            padding = Padding(torch.arange(len(counts), device=x.device), everything)
            return padded(means, padding, kind, parameter, dtype=torch.bfloat16)
        if precision == "bf16":
            return padded(x, problem.padding, kind, parameter, dtype=torch.bfloat16)
        if problem.inter:
            return index_add(x, problem.labels, counts, kind, parameter)
        return loop(x, problem.order, problem.sizes, kind, parameter)

    return Provider(loss, lambda _: Cost(0, 0, 0), precision)


def _scale(problem: Problem, loss: Tensor) -> Tensor:
    """How much of a small relative change of all distances or cosines reaches the loss."""
    if problem.pair_kind == "infonce":
        return torch.ones_like(loss) / problem.parameter
    if problem.pair_kind == "hinge":
        return 2 * problem.parameter * loss.sqrt()
    return torch.ones_like(loss)


def _comparable(problem: Problem, precision: Precision) -> Tensor:
    """[N] bool: rows whose gradient does not hang on which of two neighbours is the nearest."""
    comparable = torch.ones_like(problem.labels, dtype=torch.bool)
    if problem.kind != "nearest":
        return comparable
    for rows in problem.order.split(problem.sizes):
        unit = F.normalize(problem.features[rows].double(), dim=1)
        cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
        close = cosine >= cosine.amax(1, keepdim=True) - 16 * ROUNDING[precision]
        doubtful = close.sum(1) > 1
        comparable[rows] = ~(doubtful | (close & doubtful.unsqueeze(1)).any(0))
    return comparable
