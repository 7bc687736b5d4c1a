"""VGG-11 (1409.1556) as the condensation literature shrinks it: norms, and one linear layer."""

from __future__ import annotations

from torch import nn

from gencond_fast.models.classifier import Classifier
from gencond_fast.models.norms import Norm, build_norm

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_SMALLEST_MAP = 2


def vgg11(
    channels: int, num_classes: int, image_size: int, *, norm: Norm = "instance"
) -> Classifier:
    """Five stages of 3x3 convolutions, norm and ReLU, with 2x2 max pooling between them.

    What is left of the map is averaged: of 32 pixels the pooling leaves a single one, and larger
    images do not make the linear layer larger.

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: side of the square input in pixels. A stage is pooled as long as 2 x 2 remain
            for the next one, as they do of 32 pixels: instance norm leaves nothing of one pixel.
        norm: instance norm, the default of DC's and MTT's comparisons, or batch norm.
    """
    layers: list[nn.Module] = []
    inputs, size = channels, image_size
    for stage, widths in enumerate(_STAGES):
        if stage > 0 and size // 2 >= _SMALLEST_MAP:
            layers.append(nn.MaxPool2d(2))
            size //= 2
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), build_norm(norm, width), nn.ReLU()]
            inputs = width
    layers += [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)]
    return Classifier(nn.Sequential(*layers), inputs, num_classes)
