"""CutMix (1905.04899): images with a box of another image, and the labels of both; batched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mixing:
    """Which images are mixed, and the random numbers behind their boxes.

    Attributes:
        partners: int64 [B], a permutation: whose box each image gets.
        draws: float32 [b, 3], with b = 1 (one box a batch) or B: the side of the box as a share of
            the image's, and its centre, uniform in [0, 1).
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
        each: whether every image has a box of its own, rather than one for the batch as in the
            paper.
        device: where the tensors are to be.

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
    return Mixing(partners.to(device), draws.to(device))


def cutmix(images: Tensor, labels: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Puts a box of each image's partner in its place; differentiable in the images.

    The loss of a mixed image is that under its own label times its share, and that under its
    partner's label times the rest:

        images, own, other, share = cutmix(images, labels, mixing)
        losses = [F.cross_entropy(logits, each, reduction="none") for each in (own, other)]
        loss = torch.lerp(losses[1], losses[0], share).mean()

    Args:
        images: [B, channels, H, W], any dtype; channels last stay so.
        labels: [B], or [B, C] as shares.
        mixing: what to mix.

    Returns:
        The mixed images; the labels; those of the partners; and the share of the pixels that each
        image keeps, float32 [B], of the box as it was cut to the image.

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
    """[b, length] bool: the positions that a box covers, in the paper's rounding."""
    half = (side * length).long()[:, None] // 2
    middle = (centre * length).long()[:, None]
    position = torch.arange(length, device=side.device)
    return (position >= middle - half) & (position < middle + half)
