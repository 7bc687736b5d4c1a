"""Everyone who computes class moments: ours, what PyTorch users write, NumPy and SciPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

import gencond_fast as gf
from benchmarks.peers import moments as peers
from benchmarks.peers import moments_numpy as arrays
from benchmarks.peers.moments import Moments
from benchmarks.problem import Shape, class_sizes

OURS = "gencond_fast"

Form = Callable[..., Moments]

_EAGER: dict[str, Form] = {
    "loop of var_mean": peers.loop,
    "index_add, two passes": peers.index_add,
    "index_add, sums of squares": peers.naive,
    "one-hot matmul, two passes": peers.one_hot,
    "scatter_reduce": peers.scatter_reduce,
    "segment_reduce": peers.segment_reduce,
}
_ARRAYS: dict[str, Form] = {
    "NumPy add.at": arrays.add_at,
    "NumPy add.reduceat": arrays.reduceat,
    "SciPy ndimage": arrays.labelled,
}


@dataclass(frozen=True, eq=False)
class Problem:
    """Labelled features.

    Attributes:
        features: [N, D] float32.
        labels: [N] int64 in 0 ... C - 1.
        classes: C.
        ordered: whether the labels ascend.
        equal: whether the classes are of one size.
    """

    features: Tensor
    labels: Tensor
    classes: int
    ordered: bool
    equal: bool


@dataclass(frozen=True)
class Provider:
    """Moments of features alone: what else there is of the problem is bound.

    Attributes:
        moments: [N, D] features to mean and m2, [C, D] each.
        differentiable: whether gradients flow back.
        cancels: whether m2 is a difference of sums of squares.
        compiled: whether torch.compile may refuse it.
    """

    moments: Callable[[Tensor], Moments]
    differentiable: bool = True
    cancels: bool = False
    compiled: bool = False

    def forward(self, features: Tensor) -> Moments:
        """Mean and m2, without a graph."""
        with torch.no_grad():
            return self.moments(features)

    def forward_backward(self, leaf: Tensor, upstream: Moments) -> tuple[Moments, Tensor]:
        """Mean and m2, and the gradient of both by the features, weighted with upstream."""
        moments = self.moments(leaf)
        (grad,) = torch.autograd.grad(moments, leaf, upstream)
        return moments, grad

    def backward(self, leaf: Tensor, upstream: Moments) -> Callable[[], Tensor]:
        """Calls for the gradient alone, of moments computed now."""
        moments = self.moments(leaf)
        return lambda: torch.autograd.grad(moments, leaf, upstream, retain_graph=True)[0]


def make_problem(shape: Shape, ordered: bool) -> Problem:
    """Draws features, with seed 0, around class centres that are as far apart as they spread."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(shape.classes).repeat_interleave(class_sizes(shape))
    if not ordered:
        labels = labels[torch.randperm(shape.samples, generator=rng)]
    centres = torch.randn(shape.classes, shape.width, generator=rng)
    features = torch.randn(shape.samples, shape.width, generator=rng).add_(centres[labels])
    return Problem(features, labels, shape.classes, ordered, shape.spread == "equal")


def make_providers(problem: Problem) -> dict[str, Provider]:
    """All providers, ours first."""
    labels, classes, ordered = problem.labels, problem.classes, problem.ordered
    eager = _EAGER | ({"reshape + var_mean": peers.reshape} if problem.equal else {})

    def bound(function: Form) -> Callable[[Tensor], Moments]:
        return partial(function, labels=labels, classes=classes, ordered=ordered)

    def ours(features: Tensor) -> Moments:
        moments = gf.class_moments(features, labels, classes, impl="fused")
        return moments.mean, moments.m2

    found = {OURS: Provider(ours)}
    for name, function in eager.items():
        found[name] = Provider(bound(function), cancels=function is peers.naive)
    for name, function in eager.items():
        if function is peers.loop:  # it splits by sizes that no graph knows
            continue
        # fullgraph also makes an error of what would silently fall back to eager
        compiled = torch.compile(bound(function), dynamic=False, fullgraph=True)
        cancels = function is peers.naive
        found[f"compiled {name}"] = Provider(compiled, cancels=cancels, compiled=True)
    for name, function in _ARRAYS.items():
        found[name] = Provider(bound(function), differentiable=False)
    return found


def obstacle(name: str, problem: Problem, seconds: float) -> str | None:
    """Why the provider is not called: one that takes a column at a time may be too slow."""
    if name != "SciPy ndimage":
        return None
    column = Problem(
        problem.features[:, :1], problem.labels, problem.classes, problem.ordered, False
    )
    call = make_providers(column)[name]
    call.forward(column.features)
    start = time.perf_counter()
    call.forward(column.features)
    takes = (time.perf_counter() - start) * problem.features.shape[1]
    return f"would take about {takes:.0f} s" if takes > seconds else None
