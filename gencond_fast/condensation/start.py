"""Pixels that start as real images."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gencond_fast.condensation.warm_start import choose_targets
from gencond_fast.data.sample import Sample
from gencond_fast.models.pixels import PixelSet
from gencond_fast.models.store import StoredSet


def start_from_real(store: StoredSet, sample: Sample) -> None:
    """Puts real images in the place of stored ones, made smaller where those are.

    Args:
        store: of the format `pixels`.
        sample: real images, of which those are taken that a warm start would be fitted to.
    """
    assert isinstance(store, PixelSet)  # the config says so
    images = choose_targets(sample.images, sample.labels, store.spec.per_class)
    side = (store.spec.code_size, store.spec.code_size)
    smaller = F.interpolate(images.float(), size=side, mode="area")
    with torch.no_grad():
        store.images.copy_(smaller / 255.0)
