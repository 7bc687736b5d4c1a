"""Everyone who computes the losses: ours, what PyTorch users write, KeOps and geomloss."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from torch import Tensor

import gencond_fast as gf
from benchmarks.cost import Cost, cost_of_fused, cost_of_matrices, cost_of_symbolic
from benchmarks.peers.centres import index_add
from benchmarks.peers.geomloss import geomloss
from benchmarks.peers.keops import keops
from benchmarks.peers.loop import loop
from benchmarks.peers.padded import Form, padded
from benchmarks.precision import Precision, products_in
from benchmarks.problem import Problem

OURS = "gencond_fast"
# each is timed once more as a replayed CUDA graph
CAPTURED = (OURS, "compiled padded bmm", "compiled padded bmm, tf32", "compiled padded bmm, bf16")

# no gradient wanted is False
EstimateCost = Callable[[bool], Cost]


@dataclass(frozen=True)
class Provider:
    """A loss of features alone: what comes from the labels is bound.

    Attributes:
        loss: [N, D] features to a scalar.
        cost: the estimate of a call with a gradient (True) or without.
        precision: of its matrix products, at the least exact.
    """

    loss: Callable[[Tensor], Tensor]
    cost: EstimateCost
    precision: Precision = "float32"

    def forward(self, features: Tensor) -> Tensor:
        """The loss, without a graph."""
        with torch.no_grad(), products_in(self.precision):
            return self.loss(features)

    def forward_backward(self, leaf: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and, in a tensor of its own, the gradient of upstream times the loss."""
        leaf.grad = None
        with products_in(self.precision):
            loss = self.loss(leaf)
            loss.backward(upstream)
        grad, leaf.grad = leaf.grad, None
        assert grad is not None
        return loss.detach(), grad


def missing_libraries() -> dict[str, str]:
    """Rivals that cannot take part, and why."""
    needed = {"KeOps": "pykeops", "geomloss": "geomloss"}
    return {
        name: f"{package} is not installed"
        for name, package in needed.items()
        if importlib.util.find_spec(package) is None
    }


def make_providers(problem: Problem) -> dict[str, Provider]:
    """All providers of the problem's loss, ours first, those of missing libraries too."""
    return _inter(problem) if problem.inter else _intra(problem)


def _intra(problem: Problem) -> dict[str, Provider]:
    kind, parameter = problem.pair_kind, problem.parameter
    found = _ours(problem) | {
        "eager loop": Provider(
            lambda x: loop(x, problem.order, problem.sizes, kind, parameter),
            _cost(problem, padded=False, compiled=False, loop=True),
        )
    }
    forms = get_args(Form) if kind in ("rbf", "hinge") else ("bmm",)
    for form in forms:
        found[f"eager padded {form}"] = _padded(problem, form, compiled=False)
    for form in forms:
        found[f"compiled padded {form}"] = _padded(problem, form, compiled=True)
    found["compiled padded bmm, bf16"] = _padded(problem, "bmm", compiled=True, precision="bf16")
    if problem.features.is_cuda:
        tf32 = _padded(problem, "bmm", compiled=True, precision="tf32")
        found["compiled padded bmm, tf32"] = tf32
    found["KeOps"] = Provider(
        lambda x: keops(x, problem.blocks, kind, parameter),
        lambda backward: cost_of_symbolic(problem, backward=backward),
    )
    if kind == "rbf":
        found["geomloss"] = Provider(
            lambda x: geomloss(x, problem.padding, parameter),
            _cost(problem, padded=True, compiled=False),
        )
    return found


def _inter(problem: Problem) -> dict[str, Provider]:
    counts = problem.counts.to(problem.labels.device)
    bound = partial(
        index_add,
        labels=problem.labels,
        counts=counts,
        kind=problem.pair_kind,
        parameter=problem.parameter,
    )
    form = "cdist" if problem.pair_kind == "hinge" else "mm"
    return _ours(problem) | {
        f"index_add + {form}": Provider(bound, _cost(problem, padded=False, compiled=False)),
        f"compiled index_add + {form}": Provider(
            _compiled(bound), _cost(problem, padded=False, compiled=True)
        ),
    }


def fused_provider(
    problem: Problem,
    classes: Tensor | gf.ClassLayout,
    precision: str = "auto",
    rounding: Precision = "float32",
) -> Provider:
    """Ours, given labels or a layout."""
    public: Callable[..., Tensor] = gf.inter_class_loss if problem.inter else gf.intra_class_loss
    kind = problem.pair_kind
    return Provider(
        lambda x: public(x, classes, kind=kind, impl="fused", precision=precision),
        lambda backward: cost_of_fused(problem, backward=backward),
        rounding,
    )


def _ours(problem: Problem) -> dict[str, Provider]:
    found = {
        OURS: fused_provider(problem, problem.layout),
        f"{OURS} (from labels)": fused_provider(problem, problem.labels),
    }
    if problem.features.is_cuda:
        found[f"{OURS}, tf32"] = fused_provider(problem, problem.layout, "tf32", "tf32")
        found[f"{OURS}, bf16"] = fused_provider(problem, problem.layout, "bf16", "bf16")
    return found


def _padded(
    problem: Problem, form: Form, *, compiled: bool, precision: Precision = "float32"
) -> Provider:
    bound = partial(
        padded,
        padding=problem.padding,
        kind=problem.pair_kind,
        parameter=problem.parameter,
        form=form,
        dtype=torch.bfloat16 if precision == "bf16" else None,
    )
    return Provider(
        _compiled(bound) if compiled else bound,
        _cost(problem, padded=True, compiled=compiled),
        precision,
    )


def _compiled(loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    # fullgraph also makes an error of what would silently fall back to eager
    return torch.compile(loss, dynamic=False, fullgraph=True)


def _cost(problem: Problem, **options: bool) -> EstimateCost:
    return lambda backward: cost_of_matrices(problem, backward=backward, **options)
