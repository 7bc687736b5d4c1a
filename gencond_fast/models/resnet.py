"""ResNet-18 with the small-image stem (3x3, no pooling) usual for 32- to 64-pixel inputs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.models.classifier import Classifier


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (1512.03385, fig. 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


def resnet18(channels: int, num_classes: int, image_size: int) -> Classifier:
    """Four stages of two basic blocks, widths 64 to 512, global average pooling.

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: any; the pooling is global.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    layers.append(nn.AdaptiveAvgPool2d(1))
    return Classifier(nn.Sequential(*layers), inputs, num_classes)
