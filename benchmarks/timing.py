"""Rivals timed in one process, in turns, so that a noisy neighbour hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# twice the last-level cache of an H200 and more
_FLUSHED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one provider: median and the quartiles around it, over so many calls."""

    median: float
    lower: float
    upper: float
    rounds: int


def time_in_turns(
    providers: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    warm_up: int = 2,
    seconds: float = 10.0,
) -> dict[str, Timing]:
    """Calls every provider once a round and returns the spread of each.

    Args:
        providers: what to call, by name.
        rounds: the most calls that are timed.
        warm_up: the most calls that are not.
        seconds: a provider sits out the rest of either once its calls have taken so long in all,
            after one call untimed and three timed.
    """
    measure = _cuda_stopwatch() if torch.cuda.is_initialized() else _stopwatch
    warm: dict[str, list[float]] = {name: [] for name in providers}
    timed: dict[str, list[float]] = {name: [] for name in providers}
    for number in range(warm_up + rounds):
        for name, call in providers.items():
            record, least = (warm, 1) if number < warm_up else (timed, 3)
            if len(record[name]) < least or sum(record[name]) < seconds:
                record[name].append(measure(call))
    return {name: _spread(values) for name, values in timed.items()}


def _spread(seconds: list[float]) -> Timing:
    lower, median, upper = (1e3 * value for value in statistics.quantiles(seconds, n=4))
    return Timing(median, lower, upper, len(seconds))


def _stopwatch(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cuda_stopwatch() -> Callable[[Callable[[], object]], float]:
    flushed: Tensor = torch.empty(_FLUSHED_BYTES, dtype=torch.int8, device="cuda")

    def measure(call: Callable[[], object]) -> float:
        # every call finds a cold cache and an idle device, so that its launches count
        flushed.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    return measure
