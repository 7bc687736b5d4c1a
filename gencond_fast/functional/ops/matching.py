"""The op of `moment_matching_loss`: shape function, dispatch and gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gencond_fast.functional import reference
from gencond_fast.functional.moment_formulas import check_stored, deviation, draw_share
from gencond_fast.functional.ops.derivatives import differentiable_once
from gencond_fast.functional.ops.library import define, implement
from gencond_fast.functional.ops.moments import class_moments_backward_op, class_moments_op

Tables = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _matching_reference(
    features: Tensor,
    labels: Tensor,
    target_count: Tensor,
    target_mean: Tensor,
    target_m2: Tensor,
    mean_weight: float,
    std_weight: float,
    stored: int | None,
) -> Tables:
    """One pass over the features by `class_moments`, whichever it is; the rest on C x D tables."""
    count, mean, m2 = class_moments_op(features, labels, target_count.shape[0])
    check_stored(count, stored)
    compared = ((count > 0) & (target_count > 0)).unsqueeze(1)  # [C, 1]
    delta = torch.where(compared, mean - target_mean.to(mean.dtype), 0.0)
    loss = mean_weight * delta.square().sum()
    grad_mean, grad_m2 = 2 * mean_weight * delta, torch.zeros_like(m2)
    if stored is not None:
        drawn = compared & (count > 1).unsqueeze(1)
        share = draw_share(count, stored).to(m2.dtype).unsqueeze(1)
        loss = loss - mean_weight * torch.where(drawn, m2 * share, 0.0).sum()
        grad_m2 -= mean_weight * torch.where(drawn, share, 0.0)
    if std_weight != 0:
        spread = ((count > 1) & (target_count > 1)).unsqueeze(1)
        sigma = deviation(m2, count)
        gap = torch.where(spread, sigma - deviation(target_m2.to(m2.dtype), target_count), 0)
        slope = torch.where(sigma == 0, 0.0, gap / torch.where(sigma == 0, 1.0, sigma))
        loss = loss + std_weight * gap.square().sum()
        grad_m2 += std_weight * slope / (count - 1).clamp(min=1).unsqueeze(1)
    return loss, count, mean, grad_mean, grad_m2


define("moment_matching")
for _device in ("CPU", "CUDA"):
    implement("moment_matching", _matching_reference, _device)


@torch.library.register_fake("gencond::moment_matching")
def _matching_fake(
    features: Tensor,
    labels: Tensor,
    target_count: Tensor,
    target_mean: Tensor,
    target_m2: Tensor,
    mean_weight: float,
    std_weight: float,
    stored: int | None,
) -> Tables:
    torch._check(labels.shape[0] == features.shape[0])
    torch._check(target_mean.shape[1] == features.shape[1])
    dtype = reference.accumulation_dtype(features.dtype)
    mean = features.new_empty((target_count.shape[0], features.shape[1]), dtype=dtype)
    count = labels.new_empty(target_count.shape[0])
    return (mean.new_empty(()), count, mean, torch.empty_like(mean), torch.empty_like(mean))


_moment_matching = torch.ops.gencond.moment_matching.default


class MomentMatchingFunction(torch.autograd.Function):
    """`gencond::moment_matching` with its gradient towards the features."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        labels: Tensor,
        target_count: Tensor,
        target_mean: Tensor,
        target_m2: Tensor,
        mean_weight: float,
        std_weight: float,
        stored: int | None,
    ) -> Tensor:
        """Run the op and keep what the gradient needs."""
        target = (target_count, target_mean, target_m2)
        loss, *tables = _moment_matching(features, labels, *target, mean_weight, std_weight, stored)
        ctx.save_for_backward(features, labels, *tables)
        return loss

    @staticmethod
    @differentiable_once("moment_matching_loss")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the moments' tables, scaled and carried back to the samples."""
        features, labels, count, mean, grad_mean, grad_m2 = ctx.saved_tensors
        found = class_moments_backward_op(
            grad * grad_mean, grad * grad_m2, features, labels, count, mean
        )
        return (found, *(None,) * 7)


def moment_matching(
    features: Tensor,
    labels: Tensor,
    target: tuple[Tensor, Tensor, Tensor],
    mean_weight: float,
    std_weight: float,
    stored: int | None,
) -> Tensor:
    """The loss through the dispatcher, differentiable once."""
    options = (mean_weight, std_weight, stored)
    if features.requires_grad and torch.is_grad_enabled():
        loss: Tensor = MomentMatchingFunction.apply(features, labels, *target, *options)
        return loss
    loss = _moment_matching(features, labels, *target, *options)[0]
    return loss
