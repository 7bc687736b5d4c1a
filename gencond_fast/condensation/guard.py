"""A watch over the loss that costs no synchronisation until it is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.errors import RunError


class NonFiniteGuard:
    """Remembers, on the device, the first step and term that was not a finite number."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bad: dict[str, Tensor] = {}

    def watch(self, step: int, terms: dict[str, Tensor]) -> None:
        """Looks at scalars of one step."""
        for name, value in terms.items():
            known = self._bad.get(name)
            if known is None:
                known = torch.full((), -1, device=self._device)
            first = (known < 0) & ~value.detach().isfinite()
            self._bad[name] = torch.where(first, step, known)

    def check(self) -> None:
        """Raises RunError with the earliest bad step and its terms, if there was one."""
        steps = {name: int(step) for name, step in self._bad.items() if int(step) >= 0}
        if not steps:
            return
        first = min(steps.values())
        names = ", ".join(name for name, step in steps.items() if step == first)
        raise RunError(
            f"step {first}: the term(s) {names} are not finite; the last checkpoint is kept, "
            "lower training.match_lr or training.warm_lr and start in a new directory"
        )
