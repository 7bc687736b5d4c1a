"""Images changed within a small ball so that a network names them wrongly.

All of it in the L-infinity norm, on pixels in [0, 1] before normalisation: every pixel moves by at
most epsilon and stays in [0, 1]. Nothing here changes a network, which is to be in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from gencond_fast.errors import InputError

Logits = Callable[[Tensor], Tensor]
"""Logits [B, C] of images [B, channels, H, W] in [0, 1], normalisation included."""

_TARGETS = 9  # classes that AutoAttack's targeted parts try, where there are as many others


def fgsm(logits: Logits, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    """The fast gradient sign method (1412.6572): one step to the rim of the ball.

    Args:
        logits: of the network.
        images: float [B, channels, H, W] in [0, 1].
        labels: int64 [B].
        epsilon: radius of the ball, on the scale of the pixels.

    Returns:
        The changed images, of the same shape and type.
    """
    step = epsilon * _ascent(logits, images, labels).sign()
    return _into_ball(images + step, images, epsilon)


def pgd(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
    rng: torch.Generator,
) -> Tensor:
    """Projected gradient descent (1706.06083, eq. 2.2 ff.), from a random point of the ball.

    Args:
        logits, images, labels, epsilon: as for `fgsm`.
        step_size: how far every pixel goes in a step, on the scale of the pixels.
        steps: how many there are.
        rng: on the CPU, of the start.

    Returns:
        The images after the last step, of the same shape and type.
    """
    start = torch.rand(images.shape, generator=rng, dtype=images.dtype).to(images.device)
    changed = _into_ball(images + epsilon * (2 * start - 1), images, epsilon)
    for _ in range(steps):
        step = step_size * _ascent(logits, changed, labels).sign()
        changed = _into_ball(changed + step, images, epsilon)
    return changed


def autoattack(
    logits: Logits, images: Tensor, labels: Tensor, *, epsilon: float, classes: int, seed: int
) -> Tensor:
    """AutoAttack (2003.01690), standard version, by the package `pyautoattack`.

    The targeted parts try the nine likeliest other classes, or all of fewer than ten classes. The
    parameters of the network must not need gradients, which one part would pile up in them.

    Args:
        logits, images, labels, epsilon: as for `fgsm`, float32.
        classes: C, at least 4.
        seed: of all its random parts; the global generators stay as they were.

    Returns:
        The images, changed where that makes the network wrong.

    Raises:
        InputError: as `require_autoattack`.
    """
    require_autoattack(classes)
    from pyautoattack import AutoAttack

    attack = AutoAttack(logits, device=images.device, eps=epsilon, norm="Linf", seed=seed)
    targets = min(_TARGETS, classes - 1)
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    with torch.random.fork_rng([images.device] if images.device.type == "cuda" else []):
        changed, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    return _into_ball(changed, images, epsilon)


def require_autoattack(classes: int) -> None:
    """Says whether AutoAttack can be run, before anything is trained for it.

    Raises:
        InputError: its package is not installed, or there are fewer classes than its loss needs.
    """
    if find_spec("pyautoattack") is None:
        raise InputError(
            "--attack autoattack needs the package pyautoattack, which is not installed: run "
            "pip install pyautoattack"
        )
    if classes < 4:
        raise InputError(
            f"--attack autoattack needs four classes or more for its targeted DLR loss, not "
            f"{classes}: choose --attack pgd"
        )


def _ascent(logits: Logits, images: Tensor, labels: Tensor) -> Tensor:
    """A positive multiple, for each image, of the gradient of its cross-entropy in its pixels.

    Cross-entropy is log(1 + exp(m)), m the logsumexp of the other logits less the own one. That of
    a confident network is rounded to nothing, and parts of its gradient with it; m is not.
    """
    with torch.enable_grad():
        point = images.detach().requires_grad_()
        found, own = logits(point), labels[:, None]
        others = found.scatter(1, own, -torch.inf).logsumexp(1)
        return torch.autograd.grad((others - found.gather(1, own)[:, 0]).sum(), point)[0]


def _into_ball(changed: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """The nearest images in the ball and in [0, 1]."""
    low, high = (images - epsilon).clamp(min=0.0), (images + epsilon).clamp(max=1.0)
    return changed.clamp(low, high)
