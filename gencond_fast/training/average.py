"""The moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class WeightAverage:
    """Exponential moving average of weights and running statistics, warmed up.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the initial weights are
    soon forgotten.

    Args:
        live: what is averaged, changed in place by whoever trains; see `averaged`.
        decay: the largest.
    """

    def __init__(self, live: Iterable[Tensor], decay: float) -> None:
        self._decay = decay
        self._updates = 0
        self._live = list(live)
        self._mean = [value.clone() for value in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are now."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(self._mean, self._live, 1 - decay)
        self._updates += 1

    @torch.no_grad()
    def put_in_place(self) -> None:
        """Gives the live ones the averaged values."""
        torch._foreach_copy_(self._live, self._mean)

    def state_dict(self) -> dict[str, int | list[Tensor]]:
        """What `load_state_dict` goes on from."""
        return {"updates": self._updates, "mean": self._mean}

    def load_state_dict(self, state: dict[str, int | list[Tensor]]) -> None:
        """Goes on from a saved state of the same network."""
        updates, mean = state["updates"], state["mean"]
        assert isinstance(updates, int)
        assert isinstance(mean, list)
        self._updates = updates
        torch._foreach_copy_(self._mean, mean)


def averaged(state: Mapping[str, Tensor]) -> list[Tensor]:
    """What of a state dict, which shares its memory with the network, is averaged."""
    return [value for value in state.values() if value.is_floating_point()]
