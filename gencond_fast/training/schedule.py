"""Learning rates that depend on the step alone."""

from __future__ import annotations

import math


def warm_cosine(lr: float, step: int, steps: int, warm_up: float) -> float:
    """A linear rise over a share `warm_up` of the steps, then half a cosine down to zero.

    The learning rate of step 0 … steps - 1; the rise takes one step or more and ends at `lr`.
    """
    ramp = max(1, round(warm_up * steps))
    if step < ramp:
        return lr * (step + 1) / ramp
    return 0.5 * lr * (1 + math.cos(math.pi * (step - ramp) / (steps - ramp)))
