"""ResNet-18 with the small-image stem (3x3, no pooling) usual for 32- to 64-pixel inputs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.errors import InputError
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.norms import Norm, build_norm

_SMALLEST = {"instance": 9, "batch": 1}  # of one pixel in its last maps instance norm leaves zeros


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms and a shortcut (1512.03385, fig. 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = build_norm(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = build_norm(norm, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), build_norm(norm, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


def resnet18(
    channels: int, num_classes: int, image_size: int, *, norm: Norm = "batch"
) -> Classifier:
    """Four stages of two basic blocks, widths 64 to 512, global average pooling.

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: any with batch norm, 9 pixels or more with instance norm; the pooling is global.
        norm: batch norm as in its paper, or instance norm as in the comparisons of DC and MTT.

    Raises:
        InputError: the images are too small for the norm.
    """
    if image_size < _SMALLEST[norm]:
        raise InputError(
            f"resnet18 with {norm} norm needs images of {_SMALLEST[norm]} pixels or more, and "
            f"image_size is {image_size}: choose --model resnet18, which has batch norm"
        )
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 64, 3, padding=1, bias=False),
        build_norm(norm, 64),
        nn.ReLU(),
    ]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [
            BasicBlock(inputs, outputs, stride, norm),
            BasicBlock(outputs, outputs, 1, norm),
        ]
        inputs = outputs
    layers.append(nn.AdaptiveAvgPool2d(1))
    return Classifier(nn.Sequential(*layers), inputs, num_classes)
