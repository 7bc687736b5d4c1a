"""States of a stored set, its optimiser and its average: of all classes, or of a rank's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencond_fast.condensation.checkpoint import Checkpoint, save_checkpoint
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.stage import OWNED
from gencond_fast.condensation.state import LazyTensor, mapped, materialise, meta_like
from gencond_fast.store.store import StoredSet

_Change = Callable[[Any], Any]  # of a tensor, there or to be fetched


def deal_out(
    state: dict[str, Tensor], saved: Checkpoint | None, store: StoredSet, partition: ClassPartition
) -> Checkpoint | None:
    """Gives every rank what it needs of what the first one has, a tensor at a time.

    Args:
        state: of the whole stored set, on the first rank; what of it is kept goes into `store`.
        saved: a checkpoint of the whole, on the first rank, in place of that state; its tensors
            may be still to be fetched.
        store: of what this rank keeps.
        partition: who keeps what.

    Returns:
        What this rank needs of the checkpoint; None where there is none. Its tensors are still to
        be fetched, by all ranks in the same order.

    Raises:
        InputError, OSError, RunError: another rank has failed; so do tensors when they are fetched,
            if the checkpoint cannot be read.
    """
    ranks = partition.ranks
    held = {"saved": vars(saved)} if saved else {"new": state}
    shapes = ranks.broadcast_state(meta_like(held))
    found = held if ranks.is_main else shapes

    def shared(tensor: Tensor | LazyTensor) -> LazyTensor:
        return LazyTensor(meta_like(tensor), lambda: ranks.broadcast(materialise(tensor)))

    def owned(tensor: Tensor | LazyTensor) -> LazyTensor:
        return LazyTensor(
            partition.cut(meta_like(tensor)), lambda: partition.cut(shared(tensor).fetch())
        )

    if "new" in found:
        store.load_state_dict(materialise(_store_state(found["new"], store, owned, shared)))
        return None
    return _changed(Checkpoint(**found["saved"]), store, owned, shared)


def save_whole(
    directory: Path, saved: Checkpoint, store: StoredSet, partition: ClassPartition
) -> None:
    """Writes the checkpoint of the whole, on the first rank, of those of what each rank keeps.

    A tensor is put together when it is written, so that no rank ever holds more of the whole.

    Raises:
        InputError, OSError, RunError: it cannot be written, or another rank has failed.
    """
    if partition.divided:
        saved = _changed(saved, store, partial(_together, partition), _same)
    if partition.ranks.is_main:
        save_checkpoint(directory, saved)
    else:  # has its part in each of them
        mapped(vars(saved), materialise)


def _together(partition: ClassPartition, kept: Tensor) -> LazyTensor:
    shape = (partition.spec.num_classes * len(kept) // len(partition.kept), *kept.shape[1:])
    return LazyTensor(kept.new_empty(shape, device="meta"), partial(partition.whole, kept))


def whole_state(store: StoredSet, partition: ClassPartition) -> dict[str, Tensor]:
    """The state of the whole stored set, on the first rank; errors as `deal_out`."""
    return _store_state(store.state_dict(), store, partition.whole, _same)


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
        stage=_stage_state(saved.stage, owned, shared),
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
            name: owned(value)
            if id(ordered[number]) in kept and meta_like(value).ndim
            else shared(value)
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return {**state, "state": moments}


def _stage_state(state: dict[str, Any], owned: _Change, shared: _Change) -> dict[str, Any]:
    return {
        name: mapped(values, owned if name == OWNED else shared) for name, values in state.items()
    }


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


def _same(tensor: Any) -> Any:
    return tensor
