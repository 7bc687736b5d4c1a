"""What a call costs at least and about: floors, and estimates that keep hopeless rivals away."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.problem import Problem
from benchmarks.timing import time_in_turns


@dataclass(frozen=True)
class Rates:
    """What the machine does in a second, with the threads in use.

    Attributes:
        float32: operations of a float32 matrix product.
        fastest: operations of the fastest matrix product: bfloat16 on a GPU, else float32.
        copied: bytes read and written by a copy.
    """

    float32: float
    fastest: float
    copied: float


@dataclass(frozen=True)
class Cost:
    """An estimate of one call.

    Attributes:
        operations: of matrix products.
        held: bytes alive at once beside the features.
        moved: bytes read and written.
        seconds: overhead of launches and Python.
    """

    operations: float
    held: float
    moved: float
    seconds: float = 0.0

    def obstacle(self, rates: Rates, memory: float, seconds: float) -> str | None:
        """Why the call is not made: it needs more bytes or seconds than are allowed."""
        if self.held > memory:
            return f"needs about {self.held / 1e9:.0f} GB"
        takes = self.operations / rates.float32 + self.moved / rates.copied + self.seconds
        return f"would take about {takes:.0f} s" if takes > seconds else None


def measure_rates(device: str) -> Rates:
    """Rates of products of 1024 x 1024 (8192 x 8192 on a GPU) and of a copy of 128 MB (1 GB)."""
    n, length = (8192, 2**28) if device == "cuda" else (1024, 2**25)
    a = torch.randn(n, n, device=device)
    half = a.to(torch.bfloat16 if device == "cuda" else torch.float32)
    source = torch.randn(length, device=device)
    target = torch.empty_like(source)
    calls = {
        "float32": lambda: a @ a,
        "fastest": lambda: half @ half,
        "copied": lambda: target.copy_(source),
    }
    seconds = {name: t.median / 1e3 for name, t in time_in_turns(calls, rounds=9).items()}
    product = 2.0 * n**3
    return Rates(
        product / seconds["float32"],
        product / seconds["fastest"],
        2 * source.nbytes / seconds["copied"],
    )


def pairs(problem: Problem, *, padded: bool = False) -> float:
    """Entries of the matrices of pairs."""
    if problem.inter:
        return float(len(problem.counts)) ** 2
    counts = problem.counts.double()
    each = counts.max().expand_as(counts) if padded else counts
    return float(each.square().sum())


def floor_ms(problem: Problem, rates: Rates, *, backward: bool) -> float:
    """The least time for a loss, and for its gradient with it.

    A symmetric product needs half its operations, and the gradient one product more; the features
    are read once for the loss, and read again and their gradient written for the gradient (the
    gradient of centres needs no second reading).
    """
    products = 1.5 if backward else 0.5
    passes = (2 if problem.inter else 3) if backward else 1
    operations = products * pairs(problem) * 2 * problem.features.shape[1]
    moved = passes * problem.features.nbytes
    return 1e3 * max(operations / rates.fastest, moved / rates.copied)


def cost_of_matrices(
    problem: Problem, *, backward: bool, padded: bool, compiled: bool, loop: bool = False
) -> Cost:
    """A rival that holds all pairs: some matrices of them at once, some passes over each."""
    entries = pairs(problem, padded=padded)
    rows = len(problem.counts) * float(problem.counts.max()) if padded else len(problem.features)
    width = problem.features.shape[1]
    matrices = (4 if backward else 2) if compiled else (6 if backward else 3)
    # without a gradient to come, a loop frees a class before the next
    alive = float(problem.counts.max()) ** 2 if loop and not backward else entries
    return Cost(
        operations=(3 if backward else 1) * entries * 2 * width,
        held=4 * (matrices * alive + (3 if backward else 1) * rows * width),
        moved=4 * (3 * matrices * entries + 6 * rows * width),
        seconds=1e-4 * len(problem.counts) * (2 if backward else 1) if loop else 0.0,
    )


def cost_of_fused(problem: Problem, *, backward: bool) -> Cost:
    """Ours: no matrix of pairs."""
    features = problem.features.nbytes
    products = 2.5 if backward else 1
    operations = products * pairs(problem) * 2 * problem.features.shape[1]
    return Cost(operations, held=2.0 * features, moved=6.0 * features)


def cost_of_symbolic(problem: Problem, *, backward: bool) -> Cost:
    """KeOps: no matrix of pairs, and no matrix product, which is ten times as fast on a CPU."""
    features = problem.features.nbytes
    operations = (3 if backward else 1) * pairs(problem) * 3 * problem.features.shape[1]
    return Cost(10.0 * operations, held=4.0 * features, moved=10.0 * features)
