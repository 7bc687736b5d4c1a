"""Samples of ragged classes side by side, for what compares all pairs of a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gencond_fast.system.upload import upload


def stack(
    features: Tensor, labels: Tensor, num_classes: int, most: int | None
) -> tuple[Tensor, Tensor]:
    """Arranges samples by class and fills up with zeros.

    Args:
        features: [N, D], gradients flow back to it.
        labels: [N] int64 in 0 ... C-1, in any order.
        num_classes: C.
        most: no class has more samples; None stands for N.

    Returns:
        ([C, most, D], which places hold a sample: bool [C, most]).
    """
    most = len(labels) if most is None else most
    order = labels.argsort(stable=True)
    ordered = labels[order]
    count = torch.zeros(num_classes, dtype=torch.int64, device=labels.device)
    count.scatter_add_(0, labels, torch.ones_like(labels))
    first = count.cumsum(0) - count
    place = torch.arange(len(labels), device=labels.device) - first[ordered]
    stacked = features.new_zeros(num_classes, most, features.shape[1])
    stacked = stacked.index_put((ordered, place), features[order])
    there = torch.arange(most, device=labels.device) < count[:, None]
    return stacked, there


def labels_of(counts: Sequence[int], device: torch.device) -> Tensor:
    """Labels int64 of samples that lie class after class."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    return upload(labels, device)
