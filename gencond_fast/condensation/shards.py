"""States of a stored set, its optimiser and its average: of all classes, or of a rank's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gencond_fast.condensation.checkpoint import Checkpoint
from gencond_fast.condensation.deal import Deal
from gencond_fast.models.store import StoredSet

_Change = Callable[[Tensor], Tensor]


def cut_checkpoint(saved: Checkpoint, store: StoredSet, deal: Deal) -> Checkpoint:
    """What the rank needs of a checkpoint of the whole, for a stored set of what it keeps."""
    return _changed(saved, store, deal.cut) if deal.divided else saved


def whole_checkpoint(saved: Checkpoint, store: StoredSet, deal: Deal) -> Checkpoint:
    """The checkpoint of the whole, on the first rank, of those of what each rank keeps.

    Raises:
        InputError, OSError, RunError: another rank has failed.
    """
    return _changed(saved, store, deal.whole) if deal.divided else saved


def cut_state(state: dict[str, Tensor], store: StoredSet, deal: Deal) -> dict[str, Tensor]:
    """What the rank needs of the state of the whole stored set."""
    return _store_state(state, store, deal.cut)


def whole_state(store: StoredSet, deal: Deal) -> dict[str, Tensor]:
    """The state of the whole stored set, on the first rank; errors as `whole_checkpoint`."""
    return _store_state(store.state_dict(), store, deal.whole)


def owned_parameters(store: StoredSet) -> list[torch.nn.Parameter]:
    """Those whose rows belong to classes."""
    return [value for name, value in store.named_parameters() if name in store.owned]


def _changed(saved: Checkpoint, store: StoredSet, change: _Change) -> Checkpoint:
    return replace(
        saved,
        store=_store_state(saved.store, store, change),
        optimizer=_optimizer_state(saved.optimizer, store, change),
        average=_average_state(saved.average, store, change),
    )


def _store_state(state: dict[str, Tensor], store: StoredSet, change: _Change) -> dict[str, Tensor]:
    return {name: change(value) if name in store.owned else value for name, value in state.items()}


def _optimizer_state(state: dict[str, Any], store: StoredSet, change: _Change) -> dict[str, Any]:
    """Moments have the shape of their parameter; the number of its steps has none."""
    owned = {id(each) for each in owned_parameters(store)}
    ordered = [each for group in store.parameter_groups() for each in group["params"]]
    moments = {
        number: {
            name: change(value) if id(ordered[number]) in owned and value.ndim else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return {**state, "state": moments}


def _average_state(state: dict[str, Any], store: StoredSet, change: _Change) -> dict[str, Any]:
    if not state:
        return state
    names = [name for name, _ in store.named_parameters()]
    mean = [
        change(value) if name in store.owned else value
        for name, value in zip(names, state["mean"], strict=True)
    ]
    return {**state, "mean": mean}
