"""Every rival of the class moments computes them, and their gradient, on small ragged classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import moments
from benchmarks.moments_agreement import Oracle
from benchmarks.moments_providers import Problem, Provider, make_problem, make_providers, obstacle
from benchmarks.peers import moments as peers
from benchmarks.peers import moments_numpy as arrays
from benchmarks.peers.moments import Moments
from benchmarks.problem import Shape
from gencond_fast.functional import reference

TORCH = [
    peers.loop,
    peers.index_add,
    peers.naive,
    peers.one_hot,
    peers.scatter_reduce,
    peers.segment_reduce,
]
ARRAYS = [arrays.add_at, arrays.reduceat, arrays.labelled]

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


def labelled_rows(sizes: list[int], width: int, ordered: bool) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    if not ordered:
        labels = labels[torch.randperm(len(labels))]
    return torch.randn(len(labels), width, dtype=torch.float64), labels


def same(found: Moments, features: Tensor, labels: Tensor, classes: int) -> None:
    expected = reference.class_moments(features, labels, classes)[1:]
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@settings(max_examples=60)
@given(sizes=SIZES, width=st.integers(1, 5), ordered=st.booleans(), seed=st.integers(0, 2**31))
def test_moments_with_empty_classes(sizes: list[int], width: int, ordered: bool, seed: int) -> None:
    torch.manual_seed(seed)
    x, labels = labelled_rows(sizes, width, ordered)
    for function in (*TORCH, *ARRAYS):
        same(function(x, labels, len(sizes), ordered), x, labels, len(sizes))


@pytest.mark.parametrize("ordered", [False, True])
def test_classes_of_one_size(ordered: bool) -> None:
    x, labels = labelled_rows([4] * 3, 5, ordered)
    same(peers.reshape(x, labels, 3, ordered), x, labels, 3)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("function", [*TORCH, peers.reshape])
def test_gradient(function, ordered: bool) -> None:
    sizes = [3, 3, 3] if function is peers.reshape else [4, 0, 1, 5]
    x, labels = labelled_rows(sizes, 3, ordered)
    upstream = tuple(torch.randn(2, len(sizes), 3, dtype=torch.float64))
    want, found = (x.clone().requires_grad_() for _ in range(2))
    torch.autograd.backward(reference.class_moments(want, labels, len(sizes))[1:], upstream)
    torch.autograd.backward(function(found, labels, len(sizes), ordered), upstream)
    torch.testing.assert_close(found.grad, want.grad, rtol=1e-10, atol=1e-10)


def checked(problem: Problem, providers: dict[str, Provider]) -> dict[str, str]:
    upstream = moments._upstream(problem)
    return moments.check(problem, providers, upstream, gradients=True)


@pytest.mark.parametrize(("spread", "ordered"), [("equal", True), ("ragged", False)])
def test_eager_providers_agree(spread: str, ordered: bool) -> None:
    problem = make_problem(Shape(600, 8, 5, spread), ordered)
    assert bool((problem.labels.diff() >= 0).all()) == ordered
    eager = {n: p for n, p in make_providers(problem).items() if not p.compiled}
    assert ("reshape + var_mean" in eager) == (spread == "equal")
    assert len(eager) >= 10
    assert checked(problem, eager) == {}


def test_wrong_moments_and_gradients_are_named() -> None:
    problem = make_problem(Shape(600, 8, 5, "ragged"), False)

    def right(x: Tensor) -> Moments:
        return peers.index_add(x, problem.labels, 5, False)

    def unbiased(x: Tensor) -> Moments:
        count = problem.labels.bincount().unsqueeze(1)
        mean, m2 = right(x)
        return mean, m2 * count / (count - 1)

    def detached(x: Tensor) -> Moments:
        return right(torch.where(torch.arange(600).unsqueeze(1) == 7, x.detach(), x))

    wrong = {
        r"mean\[": lambda x: (right(x)[0] + 1e-5, right(x)[1]),
        r"m2\[": unbiased,
        "is nan": lambda x: (right(x)[0], right(x)[1] * torch.nan),
        r"gradient\[7, 0\]": detached,
    }
    assert checked(problem, {"right": Provider(right)}) == {}
    for message, function in wrong.items():
        with pytest.raises(AssertionError, match=f"^wrong: .*{message}"):
            checked(problem, {"right": Provider(right), "wrong": Provider(function)})


def test_only_what_cancels_may_cancel() -> None:
    problem = make_problem(Shape(600, 8, 5, "ragged"), False)
    features = problem.features + 100
    far = Problem(features, problem.labels, 5, False, False)

    def naive(x: Tensor) -> Moments:
        return peers.naive(x, far.labels, 5, False)

    assert checked(far, {"naive": Provider(naive, cancels=True)}) == {}
    with pytest.raises(AssertionError, match=r"naive: m2\["):
        checked(far, {"naive": Provider(naive)})
    assert Oracle(far, moments._upstream(far))._m2_budget.max() < 1


def test_what_does_not_compile_is_left_out() -> None:
    problem = make_problem(Shape(60, 8, 5, "ragged"), False)

    def refuse(x: Tensor) -> Moments:
        raise RuntimeError("data-dependent\nand more")

    refused = checked(problem, {"compiled": Provider(refuse, compiled=True)})
    assert refused == {"compiled": "does not compile: data-dependent"}
    with pytest.raises(RuntimeError, match="data-dependent"):
        checked(problem, {"eager": Provider(refuse)})


def test_slow_columns_are_known_beforehand() -> None:
    problem = make_problem(Shape(600, 8, 5, "ragged"), False)
    assert obstacle("SciPy ndimage", problem, 60.0) is None
    assert "would take about" in (obstacle("SciPy ndimage", problem, 0.0) or "")
    assert obstacle("NumPy add.at", problem, 0.0) is None
