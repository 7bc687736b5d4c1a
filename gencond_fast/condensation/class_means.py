"""Images drawn around the means of their classes: a start in which nothing is a training image."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.store.colours import mean_of, principal_axes
from gencond_fast.store.zone import cosines
from gencond_fast.system.rng import named_rng

_PART = 256  # images at a time


def draw_around_means(images: Tensor, labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Gaussian images with the mean and the spectrum of their class: uint8 [C * per_class, ...].

    Each frequency of the DCT of each principal colour is drawn by itself, with the mean and the
    variance that it has in the class. So an image has colours and contrasts of its class, and no
    shapes of any one photograph.

    Args:
        images: uint8 [M, channels, S, S].
        labels: int64 [M], every class present.
        per_class: how many of each class.
        seed: of the draw.
    """
    classes, side = int(labels.max()) + 1, images.shape[-1]
    offset = mean_of(images)
    axes = principal_axes(images, offset)
    basis = cosines(side, side).to(images.device)
    shape = (classes, *images.shape[1:])
    total, square = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    for part, own in zip(images.split(_PART), labels.split(_PART), strict=True):
        pixels = part.float() / 255.0 - offset[:, None, None]
        spectrum = basis @ torch.einsum("ij,nihw->njhw", axes, pixels) @ basis.T
        total.index_add_(0, own, spectrum.double())
        square.index_add_(0, own, spectrum.double().square())
    count = torch.bincount(labels, minlength=classes).view(-1, 1, 1, 1)
    mean = total / count
    deviation = (square / count - mean.square()).clamp_min(0.0).sqrt()
    rng = named_rng(seed, "class means")
    made = torch.empty(classes * per_class, *images.shape[1:], dtype=torch.uint8)
    place = torch.arange(len(made)) // per_class
    for rows, own in zip(torch.arange(len(made)).split(_PART), place.split(_PART), strict=True):
        noise = torch.randn(len(own), *images.shape[1:], generator=rng)
        drawn = mean[own].float() + noise * deviation[own].float()
        pixels = torch.einsum("ij,njhw->nihw", axes, basis.T @ drawn @ basis)
        bright = (pixels + offset[:, None, None]).clamp(0.0, 1.0)
        made[rows] = (255.0 * bright).round().to(torch.uint8)
    return made
