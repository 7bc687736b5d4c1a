"""The ops of `channel_moments` and `batchnorm_matching_loss`: shapes, dispatch and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gencond_fast.functional import reference
from gencond_fast.functional.ops.derivatives import differentiable_once
from gencond_fast.functional.ops.library import define, implement


def _moments_reference(x: Tensor) -> tuple[Tensor, Tensor]:
    return reference.channel_moments(x)


def _moments_backward_reference(
    grad_mean: Tensor, grad_m2: Tensor, x: Tensor, mean: Tensor
) -> Tensor:
    shape = (1, -1, *(1,) * (x.dim() - 2))
    dtype = reference.accumulation_dtype(x.dtype)
    intercept, slope, centre = (
        table.to(dtype).view(shape)
        for table in (grad_mean * (x.shape[1] / max(x.numel(), 1)), 2 * grad_m2, mean)
    )
    grad = torch.empty_like(x)
    return grad.copy_(torch.addcmul(intercept, slope, x - centre))


def _distance_of_moments(
    x: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch_mean, m2 = _moments(x)
    if x.numel() == 0:
        zeros = torch.zeros_like(batch_mean)
        return zeros.new_zeros(()), batch_mean, zeros, zeros.clone()
    share = x.shape[1] / x.numel()  # of an element in the moments of its channel
    from_mean = batch_mean.double() - mean
    from_variance = m2.double() * share - variance
    norms = [torch.linalg.vector_norm(each) for each in (from_mean, from_variance)]
    slopes = [torch.where(norm == 0, 0.0, norm.reciprocal()) for norm in norms]
    return (
        (norms[0] + norms[1]).to(m2.dtype),
        batch_mean,
        (from_mean * slopes[0]).to(m2.dtype),
        (from_variance * slopes[1] * share).to(m2.dtype),
    )


define("channel_moments")
define("channel_moments_backward")
define("batchnorm_distance")
for _device in ("CPU", "CUDA"):
    implement("channel_moments", _moments_reference, _device)
    implement("channel_moments_backward", _moments_backward_reference, _device)
    implement("batchnorm_distance", _distance_of_moments, _device)


def _table(x: Tensor) -> Tensor:
    torch._check(2 <= x.dim() <= 5)
    return x.new_empty(x.shape[1], dtype=reference.accumulation_dtype(x.dtype))


@torch.library.register_fake("gencond::channel_moments")
def _moments_fake(x: Tensor) -> tuple[Tensor, Tensor]:
    return _table(x), _table(x)


@torch.library.register_fake("gencond::channel_moments_backward")
def _moments_backward_fake(grad_mean: Tensor, grad_m2: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("gencond::batchnorm_distance")
def _distance_fake(
    x: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    table = _table(x)
    return table.new_empty(()), table, torch.empty_like(table), torch.empty_like(table)


_moments = torch.ops.gencond.channel_moments.default
_moments_backward = torch.ops.gencond.channel_moments_backward.default
_distance = torch.ops.gencond.batchnorm_distance.default


class ChannelMomentsFunction(torch.autograd.Function):
    """`gencond::channel_moments` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the op and keep what the gradient needs."""
        mean, m2 = _moments(x)
        ctx.save_for_backward(x, mean)
        return mean, m2

    @staticmethod
    @differentiable_once("channel_moments")
    def backward(ctx: Any, grad_mean: Tensor, grad_m2: Tensor) -> Tensor:
        """dL/dx = dL/dmean / n + 2 dL/dm2 (x - mean), each of x's channel."""
        x, mean = ctx.saved_tensors
        return _moments_backward(grad_mean, grad_m2, x, mean)


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and m2 of every channel through the dispatcher, differentiable once."""
    if x.requires_grad and torch.is_grad_enabled():
        return ChannelMomentsFunction.apply(x)
    mean, m2 = _moments(x)
    return mean, m2


class BatchnormDistanceFunction(torch.autograd.Function):
    """`gencond::batchnorm_distance` with its gradient towards x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Run the op and keep what the gradient needs."""
        distance, batch_mean, grad_mean, grad_m2 = _distance(x, mean, variance)
        ctx.save_for_backward(x, batch_mean, grad_mean, grad_m2)
        return distance

    @staticmethod
    @differentiable_once("batchnorm_matching_loss")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the moments, scaled by the upstream one."""
        x, batch_mean, grad_mean, grad_m2 = ctx.saved_tensors
        return _moments_backward(grad_mean * grad, grad_m2 * grad, x, batch_mean), None, None


def batchnorm_distance(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """|batch mean - mean| + |batch variance - variance| of one layer, differentiable once.

    Args:
        x: [N, C, ...], two to five dimensions.
        mean: [C] of any floating dtype, a constant; so is `variance`.
        variance: [C], biased.

    Returns:
        A scalar in float32 (float64 for float64 x), 0 if x has no elements.
    """
    if x.requires_grad and torch.is_grad_enabled():
        return BatchnormDistanceFunction.apply(x, mean.detach(), variance.detach())
    return _distance(x, mean, variance)[0]
