"""The conditional generator with learned codes (2309.07698): int8 codes and a small decoder."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet, fake_int8, to_int8


def pyramid(code_size: int, image_size: int) -> list[int]:
    """Sides of the maps from the code to the image, each at most twice the one before."""
    sizes = [image_size]
    while sizes[0] > code_size:
        sizes.insert(0, max(code_size, (sizes[0] + 1) // 2))
    return sizes


def taper(width: int, maps: int) -> list[int]:
    """Channels of the maps from the code to the image: evenly down from `width` to 0.4 of it.

    Channels at the code cost least time; those at the image cost most of it.
    """
    last = max(maps - 1, 1)
    return [max(4, round(width * (1.0 - 0.6 * place / last) / 4) * 4) for place in range(maps)]


def enlarge(x: Tensor, size: int) -> Tensor:
    """Nearest neighbours of maps [B, C, H, H] on a grid of size x size.

    A doubling is a broadcast: compiled, its gradient is a sum, which takes a third off the time of
    the whole decoder.
    """
    side = x.shape[-1]
    if size != 2 * side:
        return F.interpolate(x, size=(size, size), mode="nearest")
    repeated = x[:, :, :, None, :, None].expand(-1, -1, side, 2, side, 2)
    return repeated.reshape(*x.shape[:2], size, size)


class Decoder(nn.Module):
    """Maps a code and a class to an image: 3x3 convolutions between doublings of the side.

    The class enters as one learned bias a channel after the first convolution.
    """

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__()
        self.sizes = pyramid(spec.code_size, spec.image_size)
        widths = taper(spec.width, len(self.sizes))
        self.enter = nn.Conv2d(spec.code_channels, widths[0], 3, padding=1)
        self.classes = nn.Embedding(spec.num_classes, widths[0])
        self.stages = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(widths)
        )
        self.leave = nn.Conv2d(widths[-1], spec.channels, 3, padding=1)
        nn.init.normal_(self.classes.weight, std=0.1)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Codes [B, k, s, s] and labels [B] to images [B, channels, S, S] in [0, 1]."""
        x = self.enter(codes) + self.classes(labels)[:, :, None, None]
        x = F.silu(x)
        for size, stage in zip(self.sizes[1:], self.stages, strict=True):
            x = F.silu(stage(enlarge(x, size)))
        return torch.sigmoid(self.leave(x))


class CodeGenerator(StoredSet):
    """Learned codes [n, k, s, s] and the decoder that all of them share.

    Codes are stored as int8 levels of [-1, 1] and rounded so in every forward pass, so that the
    optimisation sees what is written. The decoder is stored as float16, which moves a decoded
    pixel by less than its own rounding to eight bits.
    """

    owned = frozenset({"codes", "decoder.classes.weight"})

    def __init__(self, spec: StoreSpec, *, seed: int = 0) -> None:
        super().__init__(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = Decoder(spec)
            shape = (spec.samples, spec.code_channels, spec.code_size, spec.code_size)
            self.codes = nn.Parameter(0.3 * torch.randn(shape))

    def forward(self, index: Tensor) -> Tensor:
        """See `StoredSet.forward`."""
        return self.decoder(fake_int8(self.codes[index]), self.labels(index))

    def sample_around(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Moves each code up to half-way to another code of its class, uniformly at random."""
        other, share = self._partners(index, rng)
        codes, partners = fake_int8(self.codes[index]), fake_int8(self.codes[other])
        mixed = torch.lerp(codes, partners, share[:, None, None, None])
        return self.decoder(mixed, self.labels(index))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Codes learn ten times as fast: each is seen only when its own sample is."""
        return [
            {"params": list(self.decoder.parameters()), "scale": 1.0},
            {"params": [self.codes], "scale": 10.0},
        ]

    def images_to_storage(self) -> dict[str, Tensor]:
        """`codes` int8 [n, k, s, s] and `decoder` float16, all its weights in one row."""
        return {
            "codes": to_int8(self.codes),
            "decoder": parameters_to_vector(self.decoder.parameters()).detach().half(),
        }

    def load_images(self, tensors: dict[str, Tensor]) -> None:
        """See `StoredSet.load_images`."""
        with torch.no_grad():
            self.codes.copy_(tensors["codes"].float() / 127.0)
            vector_to_parameters(tensors["decoder"].float(), self.decoder.parameters())
