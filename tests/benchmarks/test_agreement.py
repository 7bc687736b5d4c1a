"""The check before timing passes what is right and names what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.agreement import check_agreement
from benchmarks.cost import Cost
from benchmarks.losses import KINDS
from benchmarks.peers.centres import index_add
from benchmarks.peers.loop import loop
from benchmarks.precision import Precision
from benchmarks.problem import Problem, Shape, make_problem
from benchmarks.providers import Provider

SHAPE = Shape(120, 16, 5, "ragged")


def right(problem: Problem) -> Callable[[Tensor], Tensor]:
    kind, parameter = problem.pair_kind, problem.parameter
    if problem.inter:
        return lambda x: index_add(x, problem.labels, problem.counts, kind, parameter)
    return lambda x: loop(x, problem.order, problem.sizes, kind, parameter)


def provider(loss: Callable[[Tensor], Tensor], precision: Precision = "float32") -> Provider:
    return Provider(loss, lambda _: Cost(0, 0, 0), precision)


def lossy(x: Tensor) -> Tensor:
    # rounds the value and leaves the gradient as it is
    return x + (x.bfloat16().to(x.dtype) - x).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_right_providers_agree(kind: str) -> None:
    problem = make_problem(kind, SHAPE)
    check_agreement(problem, {"right": provider(right(problem))})


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_has_a_budget_of_its_own(kind: str) -> None:
    problem = make_problem(kind, SHAPE)
    loss = right(problem)
    check_agreement(problem, {"half": provider(lambda x: loss(lossy(x)), "bf16")})
    with pytest.raises(AssertionError, match="half"):
        check_agreement(problem, {"half": provider(lambda x: loss(lossy(x)))})


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_providers_are_named(kind: str) -> None:
    problem = make_problem(kind, SHAPE)
    loss = right(problem)
    one_row_detached = torch.ones(SHAPE.samples, 1, dtype=torch.bool)
    one_row_detached[7] = False
    wrong = {
        "value": lambda x: loss(x) * (1 + 1e-3),
        "nan": lambda x: loss(x) * torch.nan,
        "gradient": lambda x: loss(torch.where(one_row_detached, x, x.detach())),
    }
    for name, each in wrong.items():
        good = provider(loss)
        with pytest.raises(AssertionError, match=f"^{name}: "):
            check_agreement(problem, {"good": good, name: provider(each)})
