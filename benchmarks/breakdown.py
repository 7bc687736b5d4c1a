"""Where the time of a matching step goes, forward and backward, on a CPU.

The step itself is watched, not copies of its parts: what it calls enters a part, and so do the
gradients that arrive at the borders between parts on the way back.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gencond_fast.condensation.bank import BankEntry
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Task
from gencond_fast.discrepancy import Real
from gencond_fast.system.runtime import Runtime

PARTS = ("data", "generator", "augmentation", "features", "losses", "optimiser")


class Stopwatch:
    """Every moment of a step belongs to the part that was entered last.

    Attributes:
        steps: seconds of each part, for each step.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._part, self._since = PARTS[0], 0.0

    def start(self) -> None:
        """Begins a step, with its data."""
        self.steps.append(dict.fromkeys(PARTS, 0.0))
        self._part, self._since = PARTS[0], time.perf_counter()

    def enter(self, part: str) -> None:
        """Ends the part under way; entering any part after the last one ends the step."""
        now = time.perf_counter()
        self.steps[-1][self._part] += now - self._since
        self._part, self._since = part, now

    def enter_on_gradient(self, tensor: Tensor, part: str) -> None:
        """Enters a part when the gradient of a tensor is there."""
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self.enter(part))

    def medians(self, steps: int) -> dict[str, float]:
        """Milliseconds of each part, medians over so many last steps."""
        last = self.steps[-steps:]
        return {part: 1e3 * statistics.median(step[part] for step in last) for part in PARTS}


def watched(
    task: Task, networks: FeatureNetworks, bank: list[BankEntry], watch: Stopwatch
) -> tuple[Task, FeatureNetworks, list[BankEntry]]:
    """What `Match` is made of, such that its steps are watched; all else is as it was.

    Real batches that are measured in the step count as losses.
    """
    runtime = _Runtime(**vars(task.runtime), watch=watch)
    entries: list[BankEntry] = [_Entry(**vars(entry), watch=watch) for entry in bank]
    return replace(task, runtime=runtime), _Networks(networks, watch), entries


@dataclass(frozen=True, kw_only=True)
class _Runtime(Runtime):
    watch: Stopwatch

    def compile(self, function: Any) -> Any:
        """The one function that `Match` compiles is the generator."""
        decode: Callable[[Tensor], Tensor] = super().compile(function)

        def watched_decode(index: Tensor) -> Tensor:
            self.watch.enter("generator")
            images = decode(index)
            self.watch.enter_on_gradient(images, "generator")
            self.watch.enter("augmentation")
            return images

        return watched_decode


class _Networks(FeatureNetworks):
    def __init__(self, networks: FeatureNetworks, watch: Stopwatch) -> None:
        vars(self).update(vars(networks))
        self._watch = watch

    def select(self, index: int) -> None:
        self._watch.enter("features")
        super().select(index)

    def observe(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        self._watch.enter_on_gradient(images, "augmentation")
        features, normed = super().observe(images)
        self._watch.enter_on_gradient(features, "features")
        self._watch.enter("losses")
        return features, normed


@dataclass(frozen=True, eq=False, kw_only=True)
class _Entry(BankEntry):
    watch: Stopwatch

    def real(self, augmentation: int, classes: Tensor) -> Real:
        self.watch.enter("data")
        found = super().real(augmentation, classes)
        self.watch.enter("losses")
        return found
