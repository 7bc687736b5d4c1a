"""Differentiable siamese augmentation (DSA, 2102.08259), vectorised over the batch.

Every call applies one operation. Its parameters are either shared by the batch (siamese: real and
generated images get the same transform) or drawn for each image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.config import OPERATIONS
from gencond_fast.system.upload import upload

_BRIGHTNESS = 1.0  # the ranges are those of the DSA paper, appendix
_SATURATION = 2.0
_CONTRAST = 0.5
_CROP = 0.125  # of the side
_CUTOUT = 0.5  # of the side
_SCALE = 1.2
_DEGREES = 15.0


@dataclass(frozen=True)
class Augmentation:
    """One operation and the random numbers behind it.

    Attributes:
        operation: one of `config.OPERATIONS`, or `identity`.
        draws: [b, 3] float32 uniform in [0, 1), with b = 1 (siamese) or the batch size.
    """

    operation: str
    draws: Tensor


def draw_augmentation(
    operation: str, rng: torch.Generator, *, batch_size: int = 1, device: str | torch.device = "cpu"
) -> Augmentation:
    """Draws the parameters of an operation; with `batch_size` 1 all images share them."""
    return Augmentation(operation, upload(torch.rand(batch_size, 3, generator=rng), device))


def draw_from_policy(
    operations: Sequence[str],
    rng: torch.Generator,
    *,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
) -> Augmentation:
    """Draws one of the operations, all equally likely, and its parameters."""
    operation = operations[int(torch.randint(len(operations), (), generator=rng))]
    return draw_augmentation(operation, rng, batch_size=batch_size, device=device)


def augment(images: Tensor, augmentation: Augmentation) -> Tensor:
    """Transforms normalised images, float [B, C, H, W]; differentiable in `images`.

    Raises:
        ValueError: the operation is unknown, or the draws fit neither 1 nor B images.
    """
    operation, draws = augmentation.operation, augmentation.draws
    if draws.shape[0] not in (1, images.shape[0]):
        raise ValueError(f"draws for {draws.shape[0]} images do not fit {images.shape[0]} images")
    if operation == "identity":
        return images
    if operation not in OPERATIONS:
        raise ValueError(f"unknown operation {operation!r}: choose one of {OPERATIONS}")
    return _FUNCTIONS[operation](images, draws)


def _color(images: Tensor, draws: Tensor) -> Tensor:
    brightness, saturation, contrast = (draws[:, i].view(-1, 1, 1, 1) for i in range(3))
    images = images + (brightness - 0.5) * _BRIGHTNESS
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * (saturation * _SATURATION)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + _CONTRAST)


def _crop(images: Tensor, draws: Tensor) -> Tensor:
    """Shifts by up to an eighth of the side and fills with zeros, which are the mean colour."""
    height, width = images.shape[-2:]
    pad_y, pad_x = int(height * _CROP + 0.5), int(width * _CROP + 0.5)
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
    top = (draws[:, 0] * (2 * pad_y + 1)).long()
    left = (draws[:, 1] * (2 * pad_x + 1)).long()
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    if draws.shape[0] == 1:
        return padded[:, :, rows[0]][:, :, :, columns[0]]
    padded = padded.take_along_dim(rows[:, None, :, None], 2)
    return padded.take_along_dim(columns[:, None, None, :], 3)


def _cutout(images: Tensor, draws: Tensor) -> Tensor:
    """Zeroes a square of half the side; its centre may lie anywhere in the image."""
    height, width = images.shape[-2:]
    inside_y = _span(draws[:, 0], height, int(height * _CUTOUT + 0.5))
    inside_x = _span(draws[:, 1], width, int(width * _CUTOUT + 0.5))
    hole = inside_y[:, None, :, None] & inside_x[:, None, None, :]
    return images * (~hole).to(images.dtype)


def _span(draw: Tensor, length: int, size: int) -> Tensor:
    """The `size` positions around a centre at `draw` of the length: bool [b, length]."""
    start = (draw * (length + (1 - size % 2))).long() - size // 2
    position = torch.arange(length, device=draw.device)
    return (position >= start[:, None]) & (position < start[:, None] + size)


def _flip(images: Tensor, draws: Tensor) -> Tensor:
    mirrored = draws[:, 0].view(-1, 1, 1, 1) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def _scale(images: Tensor, draws: Tensor) -> Tensor:
    scale_x, scale_y = ((1.0 / _SCALE + draws[:, i] * (_SCALE - 1.0 / _SCALE)) for i in range(2))
    zeros = torch.zeros_like(scale_x)
    return _affine(images, scale_x, zeros, zeros, scale_y)


def _rotate(images: Tensor, draws: Tensor) -> Tensor:
    angle = (draws[:, 0] - 0.5) * (2.0 * math.radians(_DEGREES))
    return _affine(images, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _affine(images: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    zeros = torch.zeros_like(xx)
    theta = torch.stack((torch.stack((xx, xy, zeros), 1), torch.stack((yx, yy, zeros), 1)), 1)
    theta = theta.to(images.dtype).expand(images.shape[0], 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


_FUNCTIONS = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
