"""Class moments: the C++ op against what PyTorch, NumPy and SciPy users write.

Everyone starts from raw labels. Where labels ascend, rivals that gain by it are told, ours is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import torch
import torch._dynamo
from torch import Tensor

from benchmarks.case import Case
from benchmarks.cost import Rates, measure_rates
from benchmarks.moments_agreement import Oracle
from benchmarks.moments_providers import Problem, Provider, make_problem, make_providers, obstacle
from benchmarks.peers.moments import Moments
from benchmarks.problem import Shape

# how often the features, or as many bytes, are read or written at the least
PASSES = {"forward": 1, "backward": 2, "forward+backward": 3}
READ, COPY = "reading the features", "copying the features"

_GRADIENT_WIDTH = 512
_SAMPLES = {64: 20_000, 512: 20_000, 2048: 10_000}

Setting = tuple[Shape, bool]


def _grid(widths: Sequence[int], orders: Sequence[tuple[str, bool]]) -> list[Setting]:
    return [
        (Shape(_SAMPLES[width], width, classes, spread), ordered)
        for width, classes, (spread, ordered) in product(widths, (10, 1000), orders)
    ]


GRIDS: dict[str, list[Setting]] = {
    "quick": _grid([512], [("ragged", False), ("equal", True)]),
    "full": _grid([64, 512, 2048], list(product(("equal", "ragged"), (False, True)))),
}


def cases(settings: Sequence[Setting], seconds: float = 20.0) -> Iterator[Case]:
    """Every setting forward, and some with gradients, once all providers agree.

    Args:
        settings: shapes, and whether their rows lie class after class.
        seconds: what a call may take, by an estimate made beforehand.

    Raises:
        AssertionError: a provider computes something else; the message names it.
    """
    rates = measure_rates("cpu")
    # several rivals are one function, compiled for each apart
    torch._dynamo.config.recompile_limit = 64
    for shape, ordered in settings:
        torch.compiler.reset()
        yield from _cases_of(shape, ordered, seconds, rates)


def _cases_of(shape: Shape, ordered: bool, seconds: float, rates: Rates) -> Iterator[Case]:
    problem = make_problem(shape, ordered)
    upstream = _upstream(problem)
    modes = list(PASSES) if shape.width == _GRADIENT_WIDTH else ["forward"]
    providers = make_providers(problem)
    too_slow = {name: obstacle(name, problem, seconds) for name in providers}
    skipped = {name: reason for name, reason in too_slow.items() if reason}
    skipped |= check(
        problem,
        {name: each for name, each in providers.items() if name not in skipped},
        upstream,
        gradients=len(modes) > 1,
    )
    able = {name: each for name, each in providers.items() if name not in skipped}
    columns = {"N": shape.samples, "D": shape.width, "C": shape.classes, "classes": shape.spread}
    for mode in modes:
        passes = PASSES[mode]
        yield Case(
            key={"mode": mode} | columns | {"rows": "sorted" if ordered else "unsorted"},
            providers=_calls(problem, able, mode, upstream) | _yardsticks(problem),
            skipped={n: r for n, r in skipped.items() if _takes_part(providers[n], mode)},
            floor_ms=1e3 * passes * problem.features.nbytes / rates.copied,
            yardsticks={"of_read": (READ, passes), "of_copy": (COPY, passes / 2)},
            columns={"gbytes": round(rates.copied / 1e9, 1)},
        )


def check(
    problem: Problem, providers: dict[str, Provider], upstream: Moments, *, gradients: bool
) -> dict[str, str]:
    """Why some providers do not compile, by name; all others agree.

    Raises:
        AssertionError: a provider computes something else; the message names it.
    """
    oracle = Oracle(problem, upstream)
    refused = {}
    for name, provider in providers.items():
        leaf = problem.features.detach().requires_grad_()
        found: list[tuple[Moments, Tensor | None]] = []
        try:
            found.append((provider.forward(problem.features), None))
            if gradients and provider.differentiable:
                found.append(provider.forward_backward(leaf, upstream))
        except Exception as error:
            if not provider.compiled:
                raise
            refused[name] = f"does not compile: {str(error).strip().splitlines()[0]}"
            continue
        for moments, grad in found:
            oracle.check(name, provider, moments, grad)
    return refused


def _calls(
    problem: Problem, providers: dict[str, Provider], mode: str, upstream: Moments
) -> dict[str, Callable[[], object]]:
    leaf = problem.features.detach().requires_grad_(mode != "forward")
    calls: dict[str, Callable[[], object]] = {}
    for name, provider in providers.items():
        if not _takes_part(provider, mode):
            continue
        if mode == "forward":
            calls[name] = partial(provider.forward, leaf)
        elif mode == "backward":
            calls[name] = provider.backward(leaf, upstream)
        else:
            calls[name] = partial(provider.forward_backward, leaf, upstream)
    return calls


def _takes_part(provider: Provider, mode: str) -> bool:
    # a compiled gradient frees what it was given, so it cannot be called alone again and again
    return mode == "forward" or (
        provider.differentiable and not (provider.compiled and mode == "backward")
    )


def _yardsticks(problem: Problem) -> dict[str, Callable[[], object]]:
    target = torch.empty_like(problem.features)
    return {READ: problem.features.sum, COPY: lambda: target.copy_(problem.features)}


def _upstream(problem: Problem) -> Moments:
    rng = torch.Generator().manual_seed(1)
    mean, m2 = torch.randn(2, problem.classes, problem.features.shape[1], generator=rng)
    return mean, m2
