"""A small vision transformer (2010.11929), to see what a set teaches without convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gencond_fast.models.classifier import Classifier

_WIDTH, _HEADS, _DEPTH, _HIDDEN = 192, 3, 6, 768  # half the depth of DeiT-Ti (2012.12877)
_PATCHES = 8  # along a side, as far as the patches are no larger than
_LARGEST_PATCH = 16


class PatchEmbedding(nn.Module):
    """Patches of an image as tokens with learned positions.

    The image is first filled up with zeros at its right and lower edge to whole patches.
    """

    def __init__(self, channels: int, image_size: int, patch: int) -> None:
        super().__init__()
        side = -(-image_size // patch)
        missing = side * patch - image_size
        self.fill = nn.ZeroPad2d((0, missing, 0, missing))
        self.project = nn.Conv2d(channels, _WIDTH, patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(side * side, _WIDTH).normal_(std=0.02))

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] to tokens [B, patches, width]."""
        return self.project(self.fill(images)).flatten(2).transpose(1, 2) + self.positions


class TokenMean(nn.Module):
    """The mean of all tokens (2205.01580), in place of a class token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, tokens, width] to [B, width]."""
        return tokens.mean(1)


def vit(channels: int, num_classes: int, image_size: int) -> Classifier:
    """Six pre-norm blocks of three heads and width 192, without dropout.

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: side of the square input in pixels. Patches are an eighth of it, at least 2
            and at most 16 pixels: 4 of 32 pixels, and 16 of 224, as in ViT-*/16.
    """
    patch = min(max(round(image_size / _PATCHES), 2), _LARGEST_PATCH)
    blocks = [
        nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, _HIDDEN, 0.0, "gelu", batch_first=True, norm_first=True
        )
        for _ in range(_DEPTH)
    ]
    embedding = PatchEmbedding(channels, image_size, patch)
    body = nn.Sequential(embedding, *blocks, nn.LayerNorm(_WIDTH), TokenMean())
    return Classifier(body, _WIDTH, num_classes)
