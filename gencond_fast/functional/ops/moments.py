"""The ops of class moments: shape functions, dispatch and gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gencond_fast.functional import reference
from gencond_fast.functional.ops.derivatives import differentiable_once
from gencond_fast.functional.ops.library import define, implement


def _moments_reference(
    features: Tensor, labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    return reference.class_moments(features, labels, num_classes)


def _update_reference(
    count: Tensor, mean: Tensor, m2: Tensor, features: Tensor, labels: Tensor
) -> None:
    reference.class_moments_update_(count, mean, m2, features, labels)


def _moments_backward_reference(
    grad_mean: Tensor,
    grad_m2: Tensor,
    features: Tensor,
    labels: Tensor,
    count: Tensor,
    mean: Tensor,
) -> Tensor:
    per_class = grad_mean / count.clamp(min=1).unsqueeze(1)
    deviation = features.to(mean.dtype) - mean.index_select(0, labels)
    grad = torch.addcmul(
        per_class.index_select(0, labels), grad_m2.index_select(0, labels), deviation, value=2
    )
    return grad.to(features.dtype)


define("class_moments")
define("class_moments_update_")
define("class_moments_backward")
# on a CPU the extension does it, when there is one
for _device in ("CPU", "CUDA"):
    implement("class_moments", _moments_reference, _device)
    implement("class_moments_update_", _update_reference, _device)
    implement("class_moments_backward", _moments_backward_reference, _device)


@torch.library.register_fake("gencond::class_moments")
def _moments_fake(
    features: Tensor, labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    torch._check(features.dim() == 2)
    torch._check(labels.dim() == 1)
    torch._check(labels.shape[0] == features.shape[0])
    dtype = reference.accumulation_dtype(features.dtype)
    moment = features.new_empty((num_classes, features.shape[1]), dtype=dtype)
    return labels.new_empty(num_classes), moment, torch.empty_like(moment)


@torch.library.register_fake("gencond::class_moments_update_")
def _update_fake(count: Tensor, mean: Tensor, m2: Tensor, features: Tensor, labels: Tensor) -> None:
    torch._check(labels.shape[0] == features.shape[0])
    torch._check(mean.shape[1] == features.shape[1])


@torch.library.register_fake("gencond::class_moments_backward")
def _moments_backward_fake(
    grad_mean: Tensor,
    grad_m2: Tensor,
    features: Tensor,
    labels: Tensor,
    count: Tensor,
    mean: Tensor,
) -> Tensor:
    return features.new_empty(features.shape)


class_moments_op = torch.ops.gencond.class_moments.default
class_moments_backward_op = torch.ops.gencond.class_moments_backward.default
class_moments_update_ = torch.ops.gencond.class_moments_update_.default


class ClassMomentsFunction(torch.autograd.Function):
    """`gencond::class_moments` with its gradient towards the features."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, labels: Tensor, num_classes: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the op and keep what the gradient needs."""
        count, mean, m2 = class_moments_op(features, labels, num_classes)
        ctx.save_for_backward(features, labels, count, mean)
        ctx.mark_non_differentiable(count)
        return count, mean, m2

    @staticmethod
    @differentiable_once("class_moments")
    def backward(
        ctx: Any, _grad_count: Tensor, grad_mean: Tensor, grad_m2: Tensor
    ) -> tuple[Tensor, None, None]:
        """dL/dx = dL/dmean / n + 2 dL/dm2 (x - mean), each of x's class."""
        features, labels, count, mean = ctx.saved_tensors
        grad = class_moments_backward_op(grad_mean, grad_m2, features, labels, count, mean)
        return grad, None, None


def class_moments(
    features: Tensor, labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and m2 of every class through the dispatcher, differentiable once."""
    if features.requires_grad and torch.is_grad_enabled():
        count, mean, m2 = ClassMomentsFunction.apply(features, labels, num_classes)
        return count, mean, m2
    count, mean, m2 = class_moments_op(features, labels, num_classes)
    return count, mean, m2
