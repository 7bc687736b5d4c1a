"""AlexNet as the condensation literature has it for small images: no norm, one linear layer."""

from __future__ import annotations

from torch import nn

from gencond_fast.models.classifier import Classifier

# kernel, outputs, and whether 2x2 max pooling follows
_LAYERS = ((5, 128, True), (5, 192, True), (3, 256, False), (3, 192, False), (3, 192, True))
_LARGEST_MAP = 4  # that of 32 pixels


def alexnet(channels: int, num_classes: int, image_size: int) -> Classifier:
    """Five convolutions of stride 1 with ReLU, three of them pooled (used since 2006.05929).

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: side of the square input in pixels. What is left of an image above 32 pixels
            is averaged down to the 4 x 4 map of one of 32, so that the linear layer does not grow
            with the image.
    """
    layers: list[nn.Module] = []
    inputs, size = channels, image_size
    for kernel, width, pooled in _LAYERS:
        layers += [nn.Conv2d(inputs, width, kernel, padding=kernel // 2), nn.ReLU()]
        if pooled and size > 1:
            layers.append(nn.MaxPool2d(2))
            size //= 2
        inputs = width
    side = min(size, _LARGEST_MAP)
    layers.append(nn.AdaptiveAvgPool2d(side))
    return Classifier(nn.Sequential(*layers), inputs * side * side, num_classes)
