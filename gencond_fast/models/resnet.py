"""ResNet-18 and ResNet-50 (1512.03385): ImageNet's stem for large images, 3x3 for small ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.errors import InputError
from gencond_fast.models.border import is_large
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.norms import Norm, build_norm

_SMALLEST = {"instance": 9, "batch": 1}  # of one pixel in its last maps instance norm leaves zeros


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(conv, build_norm(norm, outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms and a shortcut (1512.03385, fig. 5 left)."""

    expansion = 1  # outputs over width

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.norm1 = build_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = build_norm(norm, width)
        self.shortcut = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, width, H / stride, W / stride]."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with norms and a shortcut (1512.03385, fig. 5 right).

    The stride is in the 3x3 convolution, as in PyTorch's, whose accuracies are the usual ones.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm1 = build_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = build_norm(norm, width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.norm3 = build_norm(norm, outputs)
        self.shortcut = _shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, 4 * width, H / stride, W / stride]."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        return F.relu(self.norm3(self.conv3(out)) + self.shortcut(x))


def resnet18(
    channels: int, num_classes: int, image_size: int, *, norm: Norm = "batch"
) -> Classifier:
    """Four stages of two basic blocks, widths 64 to 512, global average pooling.

    Args:
        channels: input channels, 1 or 3.
        num_classes: outputs of the linear classifier.
        image_size: any with batch norm, 9 pixels or more with instance norm; the pooling is global.
            Above 64 the stem is ImageNet's, 7x7 of stride 2 and max pooling, else 3x3 alone.
        norm: batch norm as in its paper, or instance norm as in the comparisons of DC and MTT.

    Raises:
        InputError: the images are too small for the norm.
    """
    if image_size < _SMALLEST[norm]:
        raise InputError(
            f"resnet18 with {norm} norm needs images of {_SMALLEST[norm]} pixels or more, and "
            f"image_size is {image_size}: choose --model resnet18, which has batch norm"
        )
    return _resnet(BasicBlock, (2, 2, 2, 2), channels, num_classes, image_size, norm)


def resnet50(channels: int, num_classes: int, image_size: int) -> Classifier:
    """Stages of 3, 4, 6 and 3 bottlenecks, outputs 256 to 2048, batch norm; else as `resnet18`."""
    return _resnet(Bottleneck, (3, 4, 6, 3), channels, num_classes, image_size, "batch")


def _resnet(
    block: type[BasicBlock | Bottleneck],
    depths: tuple[int, ...],
    channels: int,
    num_classes: int,
    image_size: int,
    norm: Norm,
) -> Classifier:
    inputs = 64
    layers = _stem(channels, inputs, image_size, norm)
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for place in range(depth):
            stride = 2 if stage > 0 and place == 0 else 1
            layers.append(block(inputs, width, stride, norm))
            inputs = block.expansion * width
    layers.append(nn.AdaptiveAvgPool2d(1))
    return Classifier(nn.Sequential(*layers), inputs, num_classes)


def _stem(channels: int, width: int, image_size: int, norm: Norm) -> list[nn.Module]:
    if is_large(image_size):
        conv = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        return [conv, build_norm(norm, width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return [conv, build_norm(norm, width), nn.ReLU()]
