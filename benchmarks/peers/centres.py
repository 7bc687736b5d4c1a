"""Class means by index_add, and the loss of one class on them."""

from __future__ import annotations

from torch import Tensor

from benchmarks.peers.loop import one_class


def class_means(features: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """[C, D]; labels lie in 0 ... C - 1, and counts [C] has no zero."""
    zeros = features.new_zeros(len(counts), features.shape[1])
    return zeros.index_add(0, labels, features) / counts.unsqueeze(1)


def index_add(
    features: Tensor, labels: Tensor, counts: Tensor, kind: str, parameter: float
) -> Tensor:
    """The inter-class loss."""
    return one_class(class_means(features, labels, counts), kind, parameter)
