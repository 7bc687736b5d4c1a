"""The residual synthesis network R(., y): what the decoder of all classes adds to the levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.store.blocks import BlockTransform
from gencond_fast.store.weights import CodedConv, CodedWeight, coded_weights

_COEFFICIENTS, _PIXELS, _GAIN = 0.3, 0.1, 4.0  # sizes of what the layers give and take


class Synthesis(nn.Module):
    """Corrects coefficients from the levels around them, then pixels from the pixels around them.

    Both last layers are zero at the start: the images are those of the levels alone.

    Args:
        bands: K.
        places: int64 [K], of each band among the coefficients.
        transform: of blocks.
        num_classes: C.
        width: channels on the grid of blocks.
        pixel_width: channels on pixels.
    """

    places: Tensor

    def __init__(
        self,
        places: Tensor,
        transform: BlockTransform,
        num_classes: int,
        *,
        width: int,
        pixel_width: int,
    ) -> None:
        super().__init__()
        channels = transform.channels
        self.transform = transform
        self.register_buffer("places", places, persistent=False)
        self.coefficients = channels * transform.block**2
        self.enter = CodedConv(len(places), width, 1)
        self.label = CodedWeight((num_classes, width), 0.1)
        self.near = nn.ModuleList(CodedConv(width, width, 3) for _ in range(2))
        self.leave = CodedConv(width, self.coefficients, 1, zero=True)
        self.pixels = nn.ModuleList(
            CodedConv(into, pixel_width, 3) for into in (channels, pixel_width)
        )
        self.last = CodedConv(pixel_width, channels, 3, zero=True)

    @torch.no_grad()
    def forget(self) -> None:
        """Forgets what it learned: images are those of the levels alone."""
        for each in coded_weights(self):
            each.value.zero_()

    def forward(self, levels: Tensor, labels: Tensor, steps: Tensor) -> Tensor:
        """Images [n, channels, S, S], in the colours of the set, of levels [n, K, g, g].

        Args:
            levels: whole numbers, float32.
            labels: int64 [n].
            steps: float32 [K], of each band.
        """
        value = levels * steps.view(-1, 1, 1)
        whole = levels.new_zeros(len(levels), self.coefficients, *levels.shape[2:])
        whole = whole.index_copy(1, self.places, value)
        hidden = self.enter(levels.sign() * torch.log1p(levels.abs()))
        hidden = F.gelu(hidden + self.label()[labels][:, :, None, None])
        for layer in self.near:
            hidden = hidden + F.gelu(layer(hidden))
        images = self.transform.inverse(whole + _COEFFICIENTS * self.leave(hidden))
        hidden = F.gelu(self.pixels[0](_GAIN * images))
        hidden = hidden + F.gelu(self.pixels[1](hidden))
        return images + _PIXELS * self.last(hidden)
