"""CutMix (1905.04899): images with a box from another image, and the labels of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gencond_fast.system.upload import upload


@dataclass(frozen=True, eq=False)
class Mixing:
    """Which images are mixed, and the random numbers behind their boxes.

    Attributes:
        partners: int64 [B], a permutation; image i gets its box from image `partners[i]`.
        draws: float32 [b, 3], with b = 1 (one box for the batch) or B: the side of the box as a
            share of the image's side, and its centre down and across, uniform in [0, 1).
    """

    partners: Tensor
    draws: Tensor


def draw_cutmix(
    rng: torch.Generator,
    *,
    batch_size: int,
    alpha: float = 1.0,
    each: bool = False,
    device: str | torch.device = "cpu",
) -> Mixing:
    """Draws partners and boxes for a batch.

    Args:
        rng: on the CPU.
        batch_size: B.
        alpha: the share that an image keeps follows Beta(alpha, alpha) before its box is cut to the
            image; positive.
        each: True draws a box for every image; False draws one for the batch, as in the paper.
        device: of the tensors.

    Raises:
        ValueError: `alpha` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    partners = torch.randperm(batch_size, generator=rng)
    boxes = batch_size if each else 1
    seed = int(torch.randint(2**62, (), generator=rng))  # PyTorch's Beta takes no generator
    kept = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, (boxes, 1)))
    centres = torch.rand(boxes, 2, generator=rng)
    draws = torch.cat(((1 - kept).sqrt().float(), centres), dim=1)
    return Mixing(upload(partners, device), upload(draws, device))


def cutmix(images: Tensor, labels: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pastes a box of its partner into every image; differentiable in the images.

    The loss of a mixed image weighs the loss under its own label with the share of pixels that it
    keeps, and the loss under its partner's label with the rest::

        images, labels, partner_labels, share = cutmix(images, labels, mixing)
        loss = F.cross_entropy(logits, labels, reduction="none")
        partner_loss = F.cross_entropy(logits, partner_labels, reduction="none")
        loss = torch.lerp(partner_loss, loss, share).mean()

    Args:
        images: [B, channels, H, W], any dtype; channels last stay so.
        labels: [B], or [B, C] as shares.
        mixing: what to mix.

    Returns:
        The mixed images; the labels; the labels of the partners; and the share of its pixels that
        each image keeps, float32 [B], counted after the box was cut to the image.

    Raises:
        ValueError: `mixing` was drawn for another batch size.
    """
    count, _, height, width = images.shape
    partners, draws = mixing.partners, mixing.draws
    if len(partners) != count or len(draws) not in (1, count):
        raise ValueError(f"a mixing of {len(partners)} images does not fit {count} images")
    rows = _inside(draws[:, 0], draws[:, 1], height)
    columns = _inside(draws[:, 0], draws[:, 2], width)
    box = rows[:, None, :, None] & columns[:, None, None, :]
    mixed = torch.where(box, images[partners], images)
    taken = (rows.sum(1) * columns.sum(1)).expand(count)
    area = height * width
    return mixed, labels, labels[partners], (area - taken).float() / area


def _inside(side: Tensor, centre: Tensor, length: int) -> Tensor:
    """The positions that a box covers, rounded as in the paper: bool [b, length]."""
    half = (side * length).long()[:, None] // 2
    middle = (centre * length).long()[:, None]
    position = torch.arange(length, device=side.device)
    return (position >= middle - half) & (position < middle + half)
