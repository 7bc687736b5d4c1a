"""Every rival computes the reference's loss and gradient, in float64, on small ragged classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.losses import KINDS
from benchmarks.peers.centres import index_add
from benchmarks.peers.geomloss import geomloss
from benchmarks.peers.keops import keops
from benchmarks.peers.loop import loop
from benchmarks.peers.padded import padded
from benchmarks.problem import Problem, Shape, class_sizes, make_problem
from gencond_fast.functional import reference

INTRA = [kind for kind in KINDS if not kind.startswith("inter-")]
INTER = [kind for kind in KINDS if kind.startswith("inter-")]
DISTANCES = ["rbf", "hinge"]


def problem_of(kind: str, sizes: list[int], width: int, seed: int) -> Problem:
    rng = torch.Generator().manual_seed(seed)
    counts = torch.tensor(sizes)
    labels = torch.arange(len(sizes)).repeat_interleave(counts)
    labels = labels[torch.randperm(len(labels), generator=rng)]
    features = torch.randn(len(labels), width, generator=rng, dtype=torch.float64)
    return Problem(kind, features / width**0.5, labels, counts)


def ragged(kind: str, least: int) -> st.SearchStrategy[Problem]:
    sizes = st.lists(st.integers(1, 9), min_size=least, max_size=6).filter(lambda s: max(s) > 1)
    return st.builds(problem_of, st.just(kind), sizes, st.integers(1, 7), st.integers(0, 2**31))


def with_gradient(loss: Callable[[Tensor], Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
    leaf = features.detach().requires_grad_()
    value = loss(leaf)
    (grad,) = torch.autograd.grad(value, leaf)
    return value.detach(), grad


def expected(problem: Problem) -> tuple[Tensor, Tensor]:
    function = reference.inter_class_loss if problem.inter else reference.intra_class_loss
    return with_gradient(
        lambda x: function(x, problem.labels, kind=problem.pair_kind), problem.features
    )


def same(problem: Problem, loss: Callable[[Tensor], Tensor], tolerance: float = 1e-9) -> None:
    found = with_gradient(loss, problem.features)
    for got, want in zip(found, expected(problem), strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


# products of a Gram matrix are off by 1e-16, the root of that by 1e-8
@pytest.mark.parametrize("kind", INTRA)
@settings(max_examples=25)
@given(data=st.data())
def test_loop_and_padded_bmm(kind: str, data: st.DataObject) -> None:
    p = data.draw(ragged(kind, 1))
    same(p, lambda x: loop(x, p.order, p.sizes, kind, p.parameter), 1e-7)
    same(p, lambda x: padded(x, p.padding, kind, p.parameter, "bmm"), 1e-7)


@pytest.mark.parametrize("kind", DISTANCES)
@settings(max_examples=25)
@given(data=st.data())
def test_padded_cdist(kind: str, data: st.DataObject) -> None:
    p = data.draw(ragged(kind, 1))
    same(p, lambda x: padded(x, p.padding, kind, p.parameter, "cdist"))


@pytest.mark.parametrize("kind", INTER)
@settings(max_examples=25)
@given(data=st.data())
def test_index_add(kind: str, data: st.DataObject) -> None:
    p = data.draw(ragged(kind, 2))
    same(p, lambda x: index_add(x, p.labels, p.counts, p.pair_kind, p.parameter))


@pytest.mark.parametrize("kind", [kind for kind in INTRA if kind != "nearest"])
def test_bfloat16_products_are_near(kind: str) -> None:
    p = make_problem(kind, Shape(200, 32, 7, "ragged"))
    x = p.features.double()
    loss, grad = with_gradient(
        lambda x: padded(x, p.padding, kind, p.parameter, dtype=torch.bfloat16), x
    )
    want, want_grad = with_gradient(lambda x: loop(x, p.order, p.sizes, kind, p.parameter), x)
    assert loss.item() == pytest.approx(want.item(), rel=2e-2)
    assert (grad - want_grad).norm() < 5e-2 * want_grad.norm()


@pytest.mark.skipif(importlib.util.find_spec("pykeops") is None, reason="needs pykeops")
@pytest.mark.parametrize("kind", INTRA)
def test_keops(kind: str) -> None:
    p = problem_of(kind, [5, 1, 8, 2, 3], 6, 0)
    same(p, lambda x: keops(x, p.blocks, kind, p.parameter), 1e-7)


@pytest.mark.skipif(importlib.util.find_spec("geomloss") is None, reason="needs geomloss")
def test_geomloss() -> None:
    p = problem_of("rbf", [5, 1, 8, 2, 3], 6, 0)
    same(p, lambda x: geomloss(x, p.padding, p.parameter), 1e-7)


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_sizes_of_classes(classes: int) -> None:
    equal = class_sizes(Shape(10_000, 8, classes, "equal"))
    assert equal.tolist() == [10_000 // classes] * classes
    sizes = class_sizes(Shape(10_000, 8, classes, "ragged"))
    assert sizes.sum() == 10_000
    assert sizes.min() >= 1
    assert 2.3 < sizes.max() / sizes.double().mean() < 3.3
    assert torch.equal(sizes, class_sizes(Shape(10_000, 8, classes, "ragged")))


@pytest.mark.parametrize("spread", ["equal", "ragged"])
def test_features_are_neither_all_near_nor_all_far(spread: str) -> None:
    p = make_problem("hinge", Shape(600, 128, 12, spread))
    assert torch.equal(p.labels.bincount(), p.counts)
    assert not torch.equal(p.labels, p.labels.sort().values)
    assert 0.2 < (torch.pdist(p.features[p.order[: p.sizes[0]]]) < 1).double().mean() < 0.8
    centres = torch.stack([p.features[rows].mean(0) for rows in p.order.split(p.sizes)])
    assert 0.1 < (torch.pdist(centres) < 1).double().mean() < 0.9
