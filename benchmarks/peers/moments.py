"""Mean and sum of squared deviations of every class, as PyTorch users write it.

All take features [N, D], labels [N] in 0 ... C - 1, C, and whether the labels ascend; all return
two [C, D] tensors, with zeros for empty classes. Where rows must lie class after class and do not,
they are brought there first.
"""

from __future__ import annotations

import torch
from torch import Tensor

Moments = tuple[Tensor, Tensor]


def loop(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """var_mean of one class after the other."""
    counts = _counts(labels, classes).tolist()
    empty = features.new_zeros(features.shape[1])
    means, m2s = [], []
    for rows in _class_after_class(features, labels, ordered).split(counts):
        variance, mean = torch.var_mean(rows, 0, correction=0) if len(rows) else (empty, empty)
        means.append(mean)
        m2s.append(variance * len(rows))
    return torch.stack(means), torch.stack(m2s)


def index_add(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """Two passes: means, then deviations from them."""
    zeros = features.new_zeros(classes, features.shape[1])
    mean = zeros.index_add(0, labels, features) / _divisor(labels, classes)
    return mean, zeros.index_add(0, labels, (features - mean[labels]).square())


def naive(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """E[x^2] - E[x]^2, which cancels where means are large next to deviations."""
    zeros = features.new_zeros(classes, features.shape[1])
    total = zeros.index_add(0, labels, features)
    squares = zeros.index_add(0, labels, features.square())
    mean = total / _divisor(labels, classes)
    return mean, squares - total * mean


def one_hot(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """Two passes, sums as products with the [C, N] matrix of who belongs where."""
    member = (torch.arange(classes, device=labels.device).unsqueeze(1) == labels).to(features.dtype)
    mean = member @ features / _divisor(labels, classes)
    return mean, member @ (features - mean[labels]).square()


def scatter_reduce(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """Two passes of scatter_reduce."""
    zeros = features.new_zeros(classes, features.shape[1])
    index = labels.unsqueeze(1).expand_as(features)
    total = zeros.scatter_reduce(0, index, features, "sum")
    mean = total / _divisor(labels, classes)
    return mean, zeros.scatter_reduce(0, index, (features - mean[labels]).square(), "sum")


def segment_reduce(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """Two passes of segment_reduce over rows class after class."""
    counts = _counts(labels, classes)
    rows = _class_after_class(features, labels, ordered)
    total = torch.segment_reduce(rows, "sum", lengths=counts, initial=0)
    mean = total / counts.clamp(min=1).unsqueeze(1)
    centres = mean.repeat_interleave(counts, dim=0, output_size=len(rows))
    squares = (rows - centres).square()
    return mean, torch.segment_reduce(squares, "sum", lengths=counts, initial=0)


def reshape(features: Tensor, labels: Tensor, classes: int, ordered: bool) -> Moments:
    """var_mean of [C, N / C, D]; for classes of one size."""
    rows = _class_after_class(features, labels, ordered).unflatten(0, (classes, -1))
    variance, mean = torch.var_mean(rows, 1, correction=0)
    return mean, variance * rows.shape[1]


def _counts(labels: Tensor, classes: int) -> Tensor:
    # unlike bincount's, its shape does not depend on the labels, so it compiles
    return labels.new_zeros(classes).index_add(0, labels, torch.ones_like(labels))


def _divisor(labels: Tensor, classes: int) -> Tensor:
    return _counts(labels, classes).clamp(min=1).unsqueeze(1)


def _class_after_class(features: Tensor, labels: Tensor, ordered: bool) -> Tensor:
    return features if ordered else features[labels.argsort(stable=True)]
