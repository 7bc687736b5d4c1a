"""Second derivatives, which the ops do not have: refused in words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Gradients = TypeVar("Gradients")


def differentiable_once(
    name: str,
) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Let a backward refuse `create_graph=True`.

    `once_differentiable` of PyTorch takes a gradient for a constant where the upstream gradient
    requires none: a gradient penalty would have the gradient 0, and a Hessian would be 0.

    Args:
        name: what the message calls the function.
    """

    def decorate(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        @functools.wraps(backward)
        def once(ctx: Any, *upstream: Tensor) -> Gradients:
            # the compiler refuses second derivatives by itself
            if torch.is_grad_enabled() and not torch.compiler.is_compiling():
                raise RuntimeError(
                    f"{name}: the fused version has no second derivative, which create_graph=True "
                    "asks for; impl='reference' has one"
                )
            return backward(ctx, *upstream)

        return once

    return decorate
