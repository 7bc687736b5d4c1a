"""Vision transformers (2010.11929), to see what a set teaches without convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gencond_fast.models.classifier import Classifier

_PATCHES = 8  # along a side, as far as the patches are no larger than
_LARGEST_PATCH = 16


class PatchEmbedding(nn.Module):
    """Patches of an image as tokens with learned positions.

    The image is first filled up with zeros at its right and lower edge to whole patches.
    """

    def __init__(self, channels: int, image_size: int, patch: int, width: int) -> None:
        super().__init__()
        side = -(-image_size // patch)
        missing = side * patch - image_size
        self.fill = nn.ZeroPad2d((0, missing, 0, missing))
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(side * side, width).normal_(std=0.02))

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] to tokens [B, patches, width]."""
        return self.project(self.fill(images)).flatten(2).transpose(1, 2) + self.positions


class TokenMean(nn.Module):
    """The mean of all tokens (2205.01580), in place of a class token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, tokens, width] to [B, width]."""
        return tokens.mean(1)


def vit(
    channels: int,
    num_classes: int,
    image_size: int,
    *,
    width: int = 192,
    heads: int = 3,
    depth: int = 6,
) -> Classifier:
    """Pre-norm blocks without dropout: by default half the depth of DeiT-Ti (2012.12877).

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: side of the square input in pixels. Patches are an eighth of it, at least 2
            and at most 16 pixels: 4 of 32 pixels, and 16 of 224, as in ViT-*/16.
        width: of the tokens; four times as wide inside the blocks.
        heads: of the attention.
        depth: number of blocks.
    """
    patch = min(max(round(image_size / _PATCHES), 2), _LARGEST_PATCH)
    blocks = [
        nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        for _ in range(depth)
    ]
    embedding = PatchEmbedding(channels, image_size, patch, width)
    body = nn.Sequential(embedding, *blocks, nn.LayerNorm(width), TokenMean())
    return Classifier(body, width, num_classes)
