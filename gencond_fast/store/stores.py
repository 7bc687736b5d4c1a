"""Builds a stored set from its description, and tells its tensors' shapes without building it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gencond_fast.store.dct import FrequencySet
from gencond_fast.store.generator import Generator
from gencond_fast.store.pixels import PixelSet
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet

_FORMATS: dict[str, Callable[..., StoredSet]] = {
    "dct": FrequencySet,
    "generator": Generator,
    "pixels": PixelSet,
}


def build_store(spec: StoreSpec, *, seed: int = 0) -> StoredSet:
    """A stored set with initial values drawn from `seed`."""
    return _FORMATS[spec.format](spec, seed=seed)


def storage_layout(spec: StoreSpec) -> dict[str, Tensor]:
    """The tensors of the file as shapes and types only (meta device): nothing is allocated."""
    with torch.device("meta"):
        return build_store(spec).to_storage()
