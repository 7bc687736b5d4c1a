"""MobileNetV2 (1801.04381), with smaller strides for small images."""

from __future__ import annotations

from torch import Tensor, nn

from gencond_fast.models.border import is_large
from gencond_fast.models.classifier import Classifier

# expansion, outputs, blocks, stride of the first one (table 2)
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _LAST = 32, 1280


class InvertedResidual(nn.Module):
    """A wide 3x3 convolution of each channel alone, between 1x1 ones; the last has no ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * inputs
        layers = [] if expansion == 1 else _conv(inputs, width, 1)
        layers += _conv(width, width, 3, stride, groups=width)
        layers += [nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*layers)
        self._adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        return x + self.layers(x) if self._adds else self.layers(x)


def mobilenetv2(channels: int, num_classes: int, image_size: int) -> Classifier:
    """Seventeen inverted residual blocks of width 1.0, global average pooling, no dropout.

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: any. Up to 64 pixels the stem and the second stage have stride 1 in place of 2.
    """
    large = is_large(image_size)
    layers, inputs = _conv(channels, _STEM, 3, 2 if large else 1), _STEM
    for place, (expansion, outputs, blocks, first) in enumerate(_STAGES):
        stride = 1 if place == 1 and not large else first
        for block in range(blocks):
            layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expansion))
            inputs = outputs
    layers += [*_conv(inputs, _LAST, 1), nn.AdaptiveAvgPool2d(1)]
    return Classifier(nn.Sequential(*layers), _LAST, num_classes)


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]
