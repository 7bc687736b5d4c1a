"""Intra- and inter-class losses: the fused ops against what PyTorch users write.

Rivals get what can be prepared from the labels (padding, groups, ranges) ready-made and untimed,
which favours them; ours gets a `ClassLayout` in one row and raw labels in another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
import torch._dynamo

from benchmarks.agreement import UPSTREAM, check_agreement, cost_of_check
from benchmarks.case import Case
from benchmarks.cost import Rates, floor_ms, measure_rates
from benchmarks.graphs import captured
from benchmarks.problem import Problem, Shape, make_problem
from benchmarks.providers import CAPTURED, Provider, make_providers, missing_libraries

KINDS = ("infonce", "rbf", "hinge", "nearest", "inter-hinge", "inter-infonce")
MODES = {"forward": False, "forward+backward": True}

_SPREADS = ("equal", "ragged")
_GRIDS = {
    "quick": product((1_000, 10_000), (64, 512), (10, 100, 1000), _SPREADS),
    "headline": product((10_000,), (512,), (10, 100, 1000), _SPREADS),
    "full": product((1_000, 10_000, 50_000, 100_000), (64, 512, 2048), (10, 100, 1000), _SPREADS),
}
# classes of one sample have nothing to compare
GRIDS = {
    name: [Shape(*values) for values in grid if values[0] >= 2 * values[2]]
    for name, grid in _GRIDS.items()
}


@dataclass(frozen=True)
class Limits:
    """What a call may take, by an estimate made beforehand.

    Attributes:
        gigabytes: of memory; None is 16 on a CPU and nine tenths of what is free on a GPU.
        seconds: of time.
    """

    gigabytes: float | None = None
    seconds: float = 20.0

    def bytes(self, device: str) -> float:
        """Bytes of memory on the device."""
        if self.gigabytes is not None:
            return self.gigabytes * 1e9
        return 0.9 * torch.cuda.mem_get_info()[0] if device == "cuda" else 16e9


def cases(
    shapes: Sequence[Shape], kinds: Sequence[str], device: str = "cpu", limits: Limits = Limits()
) -> Iterator[Case]:
    """Every kind on every shape, forward and with its gradient, once providers agree.

    Raises:
        AssertionError: a provider computes something else; the message names it.
    """
    rates = measure_rates(device)
    # several rivals are one function, compiled for each apart
    torch._dynamo.config.recompile_limit = 64
    for shape, kind in product(shapes, kinds):
        torch.compiler.reset()
        yield from _cases_of(kind, shape, device, limits, rates)


def _cases_of(kind: str, shape: Shape, device: str, limits: Limits, rates: Rates) -> Iterator[Case]:
    problem = make_problem(kind, shape, device)
    providers = make_providers(problem)
    skipped = {
        mode: _obstacles(providers, backward, limits.bytes(device), limits.seconds, rates)
        for mode, backward in MODES.items()
    }
    able = [name for name in providers if any(name not in found for found in skipped.values())]
    checked = _checkable(problem, shape, limits, rates)
    others = providers if checked is problem else make_providers(checked)
    check_agreement(checked, {name: others[name] for name in able})
    for mode, backward in MODES.items():
        fit = {name: each for name, each in providers.items() if name not in skipped[mode]}
        yield Case(
            key={"mode": mode, "kind": kind} | _columns(shape),
            providers=_calls(problem, fit, backward),
            skipped=skipped[mode],
            floor_ms=floor_ms(problem, rates, backward=backward),
            columns={
                "checked_N": len(checked.features),
                "gflops": round(rates.fastest / 1e9, 1),
                "gbytes": round(rates.copied / 1e9, 1),
            },
        )


def _obstacles(
    providers: Mapping[str, Provider], backward: bool, memory: float, seconds: float, rates: Rates
) -> dict[str, str]:
    missing = missing_libraries()
    found = {
        name: missing.get(name) or provider.cost(backward).obstacle(rates, memory, seconds)
        for name, provider in providers.items()
    }
    return {name: reason for name, reason in found.items() if reason}


def _checkable(problem: Problem, shape: Shape, limits: Limits, rates: Rates) -> Problem:
    """The problem, or one like it with fewer samples where float64 would be too much."""
    device = problem.features.device.type
    fewest = 2 * shape.classes
    while shape.samples > fewest and cost_of_check(problem).obstacle(
        rates, limits.bytes(device), limits.seconds
    ):
        shape = shape._replace(samples=max(shape.samples // 2, fewest))
        problem = make_problem(problem.kind, shape, device)
    return problem


def _calls(
    problem: Problem, providers: Mapping[str, Provider], backward: bool
) -> dict[str, Callable[[], object]]:
    leaf = problem.features.detach().requires_grad_(backward)
    upstream = leaf.new_tensor(UPSTREAM)
    calls: dict[str, Callable[[], object]] = {}
    for name, provider in providers.items():
        if backward:
            calls[name] = partial(provider.forward_backward, leaf, upstream)
        else:
            calls[name] = partial(provider.forward, leaf)
    if leaf.is_cuda:
        calls |= {
            f"{name}, CUDA graph": captured(calls[name]) for name in CAPTURED if name in calls
        }
    return calls


def _columns(shape: Shape) -> dict[str, object]:
    return {"N": shape.samples, "D": shape.width, "C": shape.classes, "classes": shape.spread}
