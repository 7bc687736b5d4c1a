"""Images of random noise that stand where other condensations have real ones."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.data.sample import Sample
from gencond_fast.system.rng import named_rng

_SPREAD = 0.25  # of pixels in [0, 1]
_COLOUR = 0.5  # share of the channels' own noise, the rest is common to them
_PART = 256


def draw_stand_in(
    num_classes: int, channels: int, image_size: int, per_class: int, seed: int
) -> Sample:
    """Gaussian noise with an amplitude of one over the frequency, as photographs have it.

    It knows nothing of the data (the law is that of Field, J. Opt. Soc. Am. A 4, 1987), and
    depends on the arguments alone.

    Returns:
        A sample of `per_class` images for each class, different ones.
    """
    rng = named_rng(seed, "stand-in")
    rows, columns = torch.fft.fftfreq(image_size), torch.fft.rfftfreq(image_size)
    radius = (rows[:, None].square() + columns.square()).sqrt()
    radius[0, 0] = 1.0 / image_size  # brightness differs as much as the slowest wave
    count = num_classes * per_class
    images = [
        _noise(min(_PART, count - start), channels, image_size, 1.0 / radius, rng)
        for start in range(0, count, _PART)
    ]
    return Sample(torch.cat(images), torch.arange(num_classes).repeat_interleave(per_class))


def _noise(count: int, channels: int, size: int, amplitude: Tensor, rng: torch.Generator) -> Tensor:
    white = torch.randn(count, channels + 1, size, size, generator=rng)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(size, size))
    noise /= noise.square().mean().sqrt()
    mixed = torch.lerp(noise[:, :1], noise[:, 1:], _COLOUR) if channels > 1 else noise[:, 1:]
    return ((0.5 + _SPREAD * mixed) * 255.0).round_().clamp_(0, 255).to(torch.uint8)
