"""The mean and the principal colours of images."""

from __future__ import annotations

import torch
from torch import Tensor

_PART = 256  # images at a time


def mean_of(images: Tensor) -> Tensor:
    """Of each channel of uint8 images [n, channels, S, S]: float32 [channels] in [0, 1]."""
    total = sum(part.sum((0, 2, 3)) for part in images.split(_PART))  # each eight times as large
    return torch.as_tensor(total).double().div(images[:, 0].numel() * 255.0).float()


def principal_axes(images: Tensor, offset: Tensor) -> Tensor:
    """Orthonormal columns [channels, channels], that of the largest variance first."""
    product = torch.zeros(len(offset), len(offset), dtype=torch.float64, device=images.device)
    for part in images.split(_PART):
        pixels = (part / 255.0 - offset[:, None, None]).transpose(0, 1).flatten(1).double()
        product += pixels @ pixels.T
    axes = torch.linalg.eigh(product)[1].flip(1)
    signs = torch.where(axes.sum(0) < 0, -1.0, 1.0)  # they have none of their own
    return (axes * signs).float()
