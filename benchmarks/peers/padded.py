"""All classes at once, padded to the largest: [C, n, D] features and [C, n, n] pairs."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Literal["cdist", "bmm"]


class Padding(NamedTuple):
    """Where the rows go.

    Attributes:
        slots: [N] int64, the place of every row among the C n padded ones.
        valid: [C, n] bool, which places hold a row.
    """

    slots: Tensor
    valid: Tensor

    def pad(self, features: Tensor) -> Tensor:
        """[C, n, D], zeros where there is no row."""
        # index_copy, because its gradient is a gather, where that of features[index] adds up
        flat = features.new_zeros(self.valid.numel(), features.shape[1])
        return flat.index_copy(0, self.slots, features).view(*self.valid.shape, -1)


def padded(
    features: Tensor,
    padding: Padding,
    kind: str,
    parameter: float,
    form: Form = "bmm",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The intra-class loss; distances by cdist or by bmm, products in dtype if one is given."""
    x = padding.pad(features)
    valid = padding.valid
    itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    partner = valid.unsqueeze(2) & valid.unsqueeze(1) & ~itself  # [C, n, n]
    if kind == "rbf":
        value = torch.exp(_square_distances(x, form, dtype) / (-2 * parameter**2))
        return _mean_of_pairs(value, partner, valid)
    if kind == "hinge":
        value = torch.relu(parameter - _distances(x, partner, form, dtype)).square()
        return _mean_of_pairs(value, partner, valid)
    unit = F.normalize(x, dim=2)
    # a finite filling: a row of nothing but -inf has a NaN gradient
    cosine = torch.where(partner, _products(unit, dtype), -1e6)
    if kind == "nearest":
        return _mean_of_rows(cosine.amax(2), valid)
    others = (valid.sum(1, keepdim=True) - 1).clamp(min=1)  # [C, 1]
    return _mean_of_rows(torch.logsumexp(cosine / parameter, 2) - others.log(), valid)


def _products(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    return torch.bmm(x, x.mT).float() if dtype else torch.bmm(x, x.mT)


def _square_distances(x: Tensor, form: Form, dtype: torch.dtype | None) -> Tensor:
    if form == "cdist":
        return torch.cdist(x, x).square()
    # the norms are those of what is multiplied
    norm = (x if dtype is None else x.to(dtype).float()).square().sum(2)  # [C, n]
    return (norm.unsqueeze(2) + norm.unsqueeze(1) - 2 * _products(x, dtype)).clamp(min=0)


def _distances(x: Tensor, partner: Tensor, form: Form, dtype: torch.dtype | None) -> Tensor:
    if form == "cdist":
        return torch.cdist(x, x)
    # the root's gradient at 0 is infinite
    square = _square_distances(x, form, dtype)
    return torch.where(partner & (square > 0), square, 1.0).sqrt()


def _mean_of_pairs(value: Tensor, partner: Tensor, valid: Tensor) -> Tensor:
    size = valid.sum(1)
    return torch.where(partner, value, 0.0).sum() / (size * (size - 1)).sum()


def _mean_of_rows(value: Tensor, valid: Tensor) -> Tensor:
    compared = valid & (valid.sum(1, keepdim=True) > 1)
    return torch.where(compared, value, 0.0).sum() / compared.sum()
