"""A watch over the loss that costs no synchronisation until it is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.errors import RunError

_STEPS = 2**24  # more than a run takes; float32 holds all whole numbers up to it


class NonFiniteGuard:
    """Remembers, on the device, the first step at which each term was not a finite number."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._left: dict[tuple[str, ...], Tensor] = {}  # steps after the first bad one; 0: none

    def watch(self, step: int, terms: dict[str, Tensor]) -> None:
        """Looks at scalars of one step, all at once: four kernels."""
        names = tuple(terms)
        if names not in self._left:
            self._left[names] = torch.zeros(len(names), device=self._device)
        values = torch.stack([value.detach() for value in terms.values()]).float()
        bad = (values - values).nan_to_num(nan=float(_STEPS - step))  # 0 of a finite number
        torch.maximum(self._left[names], bad, out=self._left[names])

    def check(self) -> None:
        """Raises RunError with the earliest bad step and its terms, if there was one."""
        steps: dict[str, int] = {}
        for names, left in self._left.items():
            for name, after in zip(names, left.tolist(), strict=True):
                if after > 0:
                    steps[name] = min(steps.get(name, _STEPS), _STEPS - int(after))
        if not steps:
            return
        first = min(steps.values())
        blamed = ", ".join(name for name, step in steps.items() if step == first)
        raise RunError(
            f"step {first}: the term(s) {blamed} are not finite; the last checkpoint is kept, "
            "lower training.match_lr or training.warm_lr and start in a new directory"
        )
