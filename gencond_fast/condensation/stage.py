"""A stage of the optimisation: so many steps of one objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gencond_fast.store.store import StoredSet
from gencond_fast.training.schedule import warm_cosine

_RAMP = 0.05  # of a stage, over which the learning rate rises

OWNED = "owned"  # in the state of a stage


class Stage(ABC):
    """Gives the loss of each of its steps; all randomness is named by the step.

    Attributes:
        name: for progress and metrics.
        steps: how many it has.
        lr: peak learning rate.
        clips: whether the norm of the whole gradient is bounded.
    """

    name: str
    clips = True

    def __init__(self, steps: int, lr: float) -> None:
        self.steps = steps
        self.lr = lr

    @abstractmethod
    def terms(self, step: int) -> dict[str, Tensor]:
        """The weighted terms of the loss at `step` of this stage; their sum is minimised.

        Each of several ranks gives its part of every term, and the parts add up to the term.
        """

    @property
    @abstractmethod
    def images_per_step(self) -> int:
        """Generated images in one step, of all ranks, for the speed that is shown."""

    def state_dict(self) -> dict[str, Any]:
        """What the steps to come depend on beside the stored set; nothing, as a rule.

        Tensors whose rows belong to classes are under the name `OWNED`.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state of the same stage.

        Raises:
            ValueError: it is of another kind.
        """
        if state:
            raise ValueError("the steps of this stage depend on nothing but the stored set")

    def parameters(self) -> list[dict[str, Any]] | None:
        """Optimiser groups in place of those of the stored set; None where these do.

        All parameters in the order of `StoredSet.parameter_groups`: checkpoints number them.
        """
        return None

    def start(self) -> None:
        """Called before the first step, and not when a run goes on; does nothing, as a rule."""
        return

    def after_step(self, step: int) -> None:
        """Called when the optimiser has done `step`; does nothing, as a rule."""
        return

    def lr_at(self, step: int) -> float:
        """A short linear rise, then half a cosine down to zero."""
        return warm_cosine(self.lr, step, self.steps, _RAMP)


def build_optimizer(store: StoredSet, stage: Stage) -> torch.optim.Adam:
    """Adam (1412.6980) on the parameters of a stored set, at the learning rates that they ask for.

    Fused: it takes the time of passing once over them, their gradients and moments.
    """
    groups = stage.parameters() or store.parameter_groups()
    return torch.optim.Adam(groups, lr=stage.lr, fused=True)
