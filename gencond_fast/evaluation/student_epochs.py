"""How long students learn: as many steps on each training set, or at least on baselines."""

from __future__ import annotations

import math

from gencond_fast.config import EvaluateConfig


def student_epochs(config: EvaluateConfig, steps: int, stored_steps: int) -> int:
    """Epochs of the students of a training set.

    With `student_steps`, as many whole epochs as reach so many steps, on every training set. With
    `epochs`, so many on the condensed images, and as many on a baseline; but no fewer steps than
    on the condensed images, since a set of few images would otherwise have few steps.

    Args:
        config: of the evaluation.
        steps: of an epoch of the training set.
        stored_steps: of an epoch of the condensed images.
    """
    if config.student_steps is not None:
        return math.ceil(config.student_steps / steps)
    return max(config.epochs, math.ceil(config.epochs * stored_steps / steps))
