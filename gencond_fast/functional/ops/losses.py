"""The ops behind the intra- and inter-class losses: shape functions, dispatch and gradients.

On a CPU the extension does the work, on a CUDA device the Triton kernels of `gencond_fast.kernels`.

A class layout travels as plain tensors, so that the ops trace and capture: `order` [N] int64 lists
the rows class after class, `offsets` [K + 1] int64 says where each class starts in it, and
`tables` holds the tile tables that the GPU kernels want (empty on a CPU).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gencond_fast.functional import reference
from gencond_fast.functional.ops.derivatives import differentiable_once
from gencond_fast.functional.ops.library import define, implement


def _class_order(labels: Tensor) -> tuple[Tensor, Tensor]:
    n = labels.shape[0]
    ordered, order = torch.sort(labels, stable=True)
    first = torch.ones_like(labels, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    # entry k is the position where the k-th class starts; what is no start is sent to entry n
    entry = torch.where(first, first.cumsum(0) - 1, n)
    start = torch.where(first, torch.arange(n, device=labels.device), n)
    return order, labels.new_full((n + 1,), n).scatter(0, entry, start)


def _class_centres_cuda(
    features: Tensor, order: Tensor, offsets: Tensor, tables: list[Tensor]
) -> Tensor:
    from gencond_fast.kernels.centres import class_centres  # imports Triton

    return class_centres(features, order, offsets, tables)


def _class_centres_backward(
    grad: Tensor, order: Tensor, offsets: Tensor, dtype: torch.dtype
) -> Tensor:
    position = torch.arange(order.shape[0], device=order.device)
    segment = torch.searchsorted(offsets[1:], position, right=True)  # K: of no class
    count = offsets.diff().clamp(min=1).unsqueeze(1)
    share = torch.cat([grad / count, grad.new_zeros(1, grad.shape[1])]).to(dtype)  # [K + 1, D]
    class_of_row = torch.empty_like(order).scatter(0, order, segment)
    return share.index_select(0, class_of_row)


def _pair_loss_cuda(
    features: Tensor,
    order: Tensor,
    offsets: Tensor,
    centres: Tensor | None,
    tables: list[Tensor],
    kind: str,
    parameter: float,
    precision: str,
    need_grad: bool,
) -> tuple[Tensor, Tensor]:
    from gencond_fast.kernels.pair_loss import pair_loss  # imports Triton

    return pair_loss(
        features, order, offsets, centres, tables, kind, parameter, precision, need_grad
    )


for _name in ("class_order", "class_centres", "class_centres_backward", "pair_loss"):
    define(_name)
for _device in ("CPU", "CUDA"):
    implement("class_order", _class_order, _device)
    implement("class_centres_backward", _class_centres_backward, _device)
implement("class_centres", _class_centres_cuda, "CUDA")
implement("pair_loss", _pair_loss_cuda, "CUDA")


@torch.library.register_fake("gencond::class_order")
def _class_order_fake(labels: Tensor) -> tuple[Tensor, Tensor]:
    torch._check(labels.dim() == 1)
    return labels.new_empty(labels.shape), labels.new_empty(labels.shape[0] + 1)


@torch.library.register_fake("gencond::class_centres")
def _class_centres_fake(
    features: Tensor, order: Tensor, offsets: Tensor, tables: list[Tensor]
) -> Tensor:
    torch._check(features.dim() == 2)
    dtype = reference.accumulation_dtype(features.dtype)
    return features.new_empty((offsets.shape[0] - 1, features.shape[1]), dtype=dtype)


@torch.library.register_fake("gencond::class_centres_backward")
def _class_centres_backward_fake(
    grad: Tensor, order: Tensor, offsets: Tensor, dtype: torch.dtype
) -> Tensor:
    return grad.new_empty((order.shape[0], grad.shape[1]), dtype=dtype)


@torch.library.register_fake("gencond::pair_loss")
def _pair_loss_fake(
    features: Tensor,
    order: Tensor,
    offsets: Tensor,
    centres: Tensor | None,
    tables: list[Tensor],
    kind: str,
    parameter: float,
    precision: str,
    need_grad: bool,
) -> tuple[Tensor, Tensor]:
    torch._check(features.dim() == 2)
    shape = features.shape if need_grad else (0,)
    loss = features.new_empty((), dtype=torch.float32)
    return loss, features.new_empty(shape, dtype=torch.float32)


_order = torch.ops.gencond.class_order.default
_centres = torch.ops.gencond.class_centres.default
_centres_backward = torch.ops.gencond.class_centres_backward.default
_pair = torch.ops.gencond.pair_loss.default


def class_order(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows sorted by class, and where each class starts.

    Args:
        labels: [N] int64, any values in any order.

    Returns:
        order [N] int64, the row numbers by ascending label, in input order within a class;
        offsets [N + 1] int64, where the c-th present class starts in it, and N from there on.
    """
    order, offsets = _order(labels)
    return order, offsets


class ClassCentresFunction(torch.autograd.Function):
    """`gencond::class_centres` with its gradient towards the features."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, order: Tensor, offsets: Tensor, tables: Sequence[Tensor]
    ) -> Tensor:
        """Run the op and keep the layout."""
        ctx.save_for_backward(order, offsets)
        ctx.dtype = features.dtype
        return _centres(features, order, offsets, list(tables))

    @staticmethod
    @differentiable_once("inter_class_loss")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Every row gets the gradient of its centre over the size of its class."""
        order, offsets = ctx.saved_tensors
        return _centres_backward(grad, order, offsets, ctx.dtype), None, None, None


def class_centres(
    features: Tensor, order: Tensor, offsets: Tensor, tables: Sequence[Tensor]
) -> Tensor:
    """[K, D], the mean of every class, zeros for an empty one; differentiable once."""
    if features.requires_grad and torch.is_grad_enabled():
        return ClassCentresFunction.apply(features, order, offsets, tables)
    return _centres(features, order, offsets, list(tables))


class PairLossFunction(torch.autograd.Function):
    """`gencond::pair_loss`, whose forward makes the gradient while it has the tiles at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        order: Tensor,
        offsets: Tensor,
        centres: Tensor | None,
        tables: Sequence[Tensor],
        kind: str,
        parameter: float,
        precision: str,
    ) -> Tensor:
        """Run the op; keep its gradient, for an upstream gradient of one."""
        loss, grad = _pair(
            features, order, offsets, centres, list(tables), kind, parameter, precision, True
        )
        ctx.save_for_backward(grad)
        ctx.dtype = features.dtype
        return loss

    @staticmethod
    @differentiable_once("intra_class_loss, inter_class_loss")
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        """The gradient, scaled in place unless a later backward will want it again."""
        (grad,) = ctx.saved_tensors
        scaled = grad * upstream if _kept_for_later() else grad.mul_(upstream)
        return scaled.to(ctx.dtype), *(None,) * 7


def _kept_for_later() -> bool:
    if torch.compiler.is_compiling():
        return True  # the compiler decides what is done in place
    keeps = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
    return keeps()


def pair_loss(
    features: Tensor,
    order: Tensor,
    offsets: Tensor,
    centres: Tensor | None,
    tables: Sequence[Tensor],
    *,
    kind: str,
    parameter: float,
    precision: str,
) -> Tensor:
    """The intra-class loss over the classes of a layout, differentiable once.

    Args:
        features: [N, D] float32, float16 or bfloat16.
        order: [N] int64, see `class_order`; rows from offsets[K] on belong to no class.
        offsets: [K + 1] int64.
        centres: [K, D] float32, the means of the classes if they are known; the loss does not
            depend on them.
        tables: the tile tables of the layout.
        kind: see `gencond_fast.intra_class_loss`.
        parameter: the temperature, sigma or margin of the kind.
        precision: "ieee", "tf32x3", "tf32" or "bf16".

    Returns:
        A float32 scalar.
    """
    arguments = (kind, parameter, precision)
    if features.requires_grad and torch.is_grad_enabled():
        return PairLossFunction.apply(features, order, offsets, centres, tables, *arguments)
    loss, _ = _pair(features, order, offsets, centres, list(tables), *arguments, False)
    return loss
