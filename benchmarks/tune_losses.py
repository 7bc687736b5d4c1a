"""Search of block sizes, warps and stages for the Triton kernels of the losses, on a GPU.

`python -m benchmarks.tune_losses` prints the best of each kernel, to be pasted into
kernels/config.py. Run it with nothing else on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import click
import torch
from gencond_fast.kernels import config
from torch import Tensor

from benchmarks.agreement import UPSTREAM
from benchmarks.precision import ROUNDING, Precision
from benchmarks.problem import Problem, Shape, make_problem
from benchmarks.providers import fused_provider
from benchmarks.timing import time_in_turns

WARPS, STAGES = (4, 8), (2, 3, 4)
# how exactly results of two configs must agree
_ROUNDING: dict[str, Precision] = {
    "bf16": "bf16",
    "tf32": "tf32",
    "tf32x3": "float32",
    "ieee": "float32",
}


class Search(NamedTuple):
    """One function of kernels/config.py, and the case that spends its time where it is used."""

    function: str
    shape: Shape
    blocks: tuple[int, ...]


SEARCHES = (
    Search("small_config", Shape(100_000, 512, 5_000, "equal"), (32, 64, 128)),
    Search("gram_config", Shape(20_000, 512, 10, "equal"), (16, 32, 64)),
)


@click.command()
@click.option("--precision", "precisions", multiple=True, type=click.Choice(config.PRECISIONS))
@click.option("--kind", default="infonce", show_default=True)
@click.option("--rounds", type=click.IntRange(min=3), default=9, show_default=True)
def main(precisions: tuple[str, ...], kind: str, rounds: int) -> None:
    """Print the best config of every kernel for each precision (default: all)."""
    print(f"# {torch.cuda.get_device_name()}, kind {kind}")
    unsearched = {search.function: getattr(config, search.function) for search in SEARCHES}
    for precision in precisions or config.PRECISIONS:
        for function, choice in unsearched.items():
            setattr(config, function, choice)
        for search in SEARCHES:
            problem = make_problem(kind, search.shape, "cuda")
            best, milliseconds = _search(search, problem, precision, rounds)
            setattr(config, search.function, _always(best))
            print(f"{search.function:16} {precision:7} {best}  # {milliseconds:.3f} ms", flush=True)


def _search(
    search: Search, problem: Problem, precision: str, rounds: int
) -> tuple[config.Config, float]:
    from triton.errors import TritonError

    provider = fused_provider(problem, problem.layout, precision)
    leaf = problem.features.detach().requires_grad_()
    upstream = leaf.new_tensor(UPSTREAM)

    def call() -> tuple[Tensor, ...]:
        return provider.forward_backward(leaf, upstream)

    expected = call()
    tolerance = 32 * ROUNDING[_ROUNDING[precision]]
    found: dict[config.Config, float] = {}
    for values in product(search.blocks, WARPS, STAGES):
        candidate = config.Config(*values)
        setattr(config, search.function, _always(candidate))
        try:
            result = call()
        except TritonError:
            continue  # it needs more shared memory or registers than there are
        for got, want in zip(result, expected, strict=True):
            # a block size that a kernel cannot take may give wrong numbers and no error
            assert (got - want).norm() <= tolerance * want.norm(), candidate
        found[candidate] = time_in_turns({"": call}, rounds=rounds, seconds=1.0)[""].median
    best = min(found, key=found.__getitem__)
    return best, found[best]


def _always(choice: config.Config) -> Callable[[int, str], config.Config]:
    return lambda _arch, _precision: choice


if __name__ == "__main__":
    main()
