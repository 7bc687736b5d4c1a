"""Rivals timed in one process, in turns, so that a noisy neighbour hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one provider: median and the quartiles around it."""

    median: float
    lower: float
    upper: float


def time_in_turns(
    providers: Mapping[str, Callable[[], object]], *, rounds: int = 15, warm_up: int = 2
) -> dict[str, Timing]:
    """Calls every provider once a round and returns the spread of each."""
    seconds: dict[str, list[float]] = {name: [] for name in providers}
    for number in range(warm_up + rounds):
        for name, call in providers.items():
            _synchronise()
            start = time.perf_counter()
            call()
            _synchronise()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: _spread(values) for name, values in seconds.items()}


def _spread(seconds: list[float]) -> Timing:
    lower, median, upper = (1e3 * value for value in statistics.quantiles(seconds, n=4))
    return Timing(median, lower, upper)


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
