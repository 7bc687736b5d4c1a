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


def deal_out(
    state: dict[str, Tensor], saved: Checkpoint | None, store: StoredSet, deal: Deal
) -> Checkpoint | None:
    """Gives every rank what it needs of what the first one has, a tensor at a time.

    Args:
        state: of the whole stored set, on the first rank; what of it is kept goes into `store`.
        saved: a checkpoint of the whole, on the first rank, in place of that state.
        store: of what this rank keeps.
        deal: who keeps what.

    Returns:
        What this rank needs of the checkpoint; None where there is none.

    Raises:
        InputError, OSError, RunError: another rank has failed.
    """
    ranks = deal.ranks
    held = {"saved": vars(saved)} if saved else {"new": state}
    shapes = ranks.spread(_mapped(held, lambda tensor: tensor.to("meta")))
    found = held if ranks.first else shapes

    def owned(tensor: Tensor) -> Tensor:
        return deal.cut(ranks.copy(tensor))

    if "new" in found:
        store.load_state_dict(_store_state(found["new"], store, owned, ranks.copy))
        return None
    return _changed(Checkpoint(**found["saved"]), store, owned, ranks.copy)


def whole_checkpoint(saved: Checkpoint, store: StoredSet, deal: Deal) -> Checkpoint:
    """The checkpoint of the whole, on the first rank, of those of what each rank keeps.

    Raises:
        InputError, OSError, RunError: another rank has failed.
    """
    return _changed(saved, store, deal.whole, _same) if deal.divided else saved


def whole_state(store: StoredSet, deal: Deal) -> dict[str, Tensor]:
    """The state of the whole stored set, on the first rank; errors as `whole_checkpoint`."""
    return _store_state(store.state_dict(), store, deal.whole, _same)


def owned_parameters(store: StoredSet) -> list[torch.nn.Parameter]:
    """Those whose rows belong to classes."""
    return [value for name, value in store.named_parameters() if name in store.owned]


def _changed(saved: Checkpoint, store: StoredSet, owned: _Change, shared: _Change) -> Checkpoint:
    """A checkpoint with tensors changed in one way if their rows belong to classes, else another.

    All ranks go through the tensors in the same order.
    """
    return replace(
        saved,
        store=_store_state(saved.store, store, owned, shared),
        optimizer=_optimizer_state(saved.optimizer, store, owned, shared),
        average=_average_state(saved.average, store, owned, shared),
    )


def _store_state(
    state: dict[str, Tensor], store: StoredSet, owned: _Change, shared: _Change
) -> dict[str, Tensor]:
    return {
        name: owned(value) if name in store.owned else shared(value)
        for name, value in state.items()
    }


def _optimizer_state(
    state: dict[str, Any], store: StoredSet, owned: _Change, shared: _Change
) -> dict[str, Any]:
    """Moments have the shape of their parameter; the number of its steps has none."""
    kept = {id(each) for each in owned_parameters(store)}
    ordered = [each for group in store.parameter_groups() for each in group["params"]]
    moments = {
        number: {
            name: owned(value) if id(ordered[number]) in kept and value.ndim else shared(value)
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return {**state, "state": moments}


def _average_state(
    state: dict[str, Any], store: StoredSet, owned: _Change, shared: _Change
) -> dict[str, Any]:
    if not state:
        return state
    names = [name for name, _ in store.named_parameters()]
    mean = [
        owned(value) if name in store.owned else shared(value)
        for name, value in zip(names, state["mean"], strict=True)
    ]
    return {**state, "mean": mean}


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _mapped(values: Any, change: _Change) -> Any:
    """Nested dicts, lists and tuples with their tensors changed."""
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, dict):
        return {name: _mapped(value, change) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_mapped(value, change) for value in values)
    return values
