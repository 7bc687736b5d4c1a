"""Adversarial examples that networks are trained on, so that they withstand small changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gencond_fast.system.upload import upload

_STEP = 1.25  # of the radius, 2001.03994


def fgsm_example(
    loss_of: Callable[[Tensor], Tensor], images: Tensor, radius: Tensor, rng: torch.Generator
) -> Tensor:
    """One step of fast adversarial training (2001.03994): FGSM from a random point of the ball.

    Args:
        loss_of: the loss [] of images.
        images: normalised, [B, channels, S, S]. Where they were augmented their values may lie
            beyond those of pixels, so that only the ball confines the changes.
        radius: of the ball of the L-infinity norm, of normalised values, [channels, 1, 1].
        rng: on the CPU, of the start.

    Returns:
        Images in the balls around the given ones, of the same shape, without a gradient.
    """
    start = upload(torch.rand(images.shape, generator=rng), images.device)
    change = (radius * (2 * start - 1)).requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(images + change), change)
    step = change.detach() + _STEP * radius * slope.sign()
    return images + torch.clamp(step, -radius, radius)
