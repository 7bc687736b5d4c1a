"""ConvNet-D, the network of the condensation literature (2006.05929): conv, norm, pool."""

from __future__ import annotations

from torch import nn

from gencond_fast.models.classifier import Classifier
from gencond_fast.models.norms import Norm, build_norm

_SMALLEST_MAP = 3


def convnet(
    channels: int,
    num_classes: int,
    image_size: int,
    *,
    depth: int = 3,
    width: int = 128,
    norm: Norm = "instance",
) -> Classifier:
    """`depth` blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling.

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: side of the square input in pixels. Each block halves it as long as at least 3
            remain, as they do for 28 pixels and depth 3: instance norm leaves nothing of a map
            of one or two pixels.
        depth: number of blocks.
        width: channels of every block.
        norm: instance norm, the literature's default, or batch norm.
    """
    layers: list[nn.Module] = []
    size = image_size
    for block in range(depth):
        layers.append(nn.Conv2d(channels if block == 0 else width, width, 3, padding=1))
        layers += [build_norm(norm, width), nn.ReLU()]
        if size // 2 >= _SMALLEST_MAP:
            layers.append(nn.AvgPool2d(2))
            size //= 2
    return Classifier(nn.Sequential(*layers), width * size * size, num_classes)
