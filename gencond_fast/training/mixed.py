"""What a student really sees of a batch: augmented, and perhaps mixed with another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.data.augment import augment, draw_from_policy
from gencond_fast.data.mixing import cutmix, draw_cutmix
from gencond_fast.training.protocol import Protocol

LabelViews = Callable[[Tensor], Tensor]
"""Gives probabilities float32 [B, C] of normalised images [B, channels, S, S]."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """A batch that is ready for a step.

    Attributes:
        images: normalised, [B, channels, S, S].
        own: targets, labels int64 [B] or probabilities float32 [B, C].
        other: likewise, of the images mixed in; None where nothing is.
        share: float32 [B], of `own`; None likewise.
    """

    images: Tensor
    own: Tensor
    other: Tensor | None = None
    share: Tensor | None = None

    def labelled(self, label_views: LabelViews | None) -> Mixed:
        """The same images with the probabilities that a labeller gives them as they are seen."""
        return Mixed(self.images, label_views(self.images)) if label_views else self

    def loss(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy of logits [B, C], float32 []."""
        if self.other is None or self.share is None:
            return F.cross_entropy(logits, self.own)
        return mixed_loss(logits, self.own, self.other, self.share)


def mix(
    images: Tensor,
    targets: Tensor,
    protocol: Protocol,
    rng: torch.Generator,
) -> Mixed:
    """Augments and mixes a batch as the protocol says.

    Args:
        images: normalised, [B, channels, S, S].
        targets: int64 [B] or float32 [B, C], on the same device.
        protocol: its policy of augmentation and its probability of CutMix.
        rng: on the CPU.
    """
    device = images.device
    policy = protocol.augmentation
    if policy:
        transform = draw_from_policy(policy, rng, batch_size=len(images), device=device)
        images = augment(images, transform)
    if protocol.cutmix == 0.0 or torch.rand((), generator=rng) >= protocol.cutmix:
        return Mixed(images, targets)
    drawn = draw_cutmix(rng, batch_size=len(images), device=device)
    return Mixed(*cutmix(images, targets, drawn))


def mixed_loss(logits: Tensor, own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy of images mixed by `cutmix`: each target weighs as much as its pixels.

    Args:
        logits: [B, C].
        own: int64 [B], or float32 [B, C] as probabilities, for which the gradient is that of the
            KL divergence from them.
        other: likewise.
        share: float32 [B], of `own`.
    """
    losses = [F.cross_entropy(logits, each, reduction="none") for each in (own, other)]
    return torch.lerp(losses[1], losses[0], share).mean()
