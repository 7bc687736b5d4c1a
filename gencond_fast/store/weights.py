"""Network weights in steps that shapes fix, and their coding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.store import entropy
from gencond_fast.store.store import straight_through

_FINENESS = 8  # steps in the standard deviation of first weights
_LEAST_SCALE = 0.05  # mean size of the whole weights of a tensor


class CodedWeight(nn.Module):
    """A tensor of weights that is rounded to whole steps in every forward pass.

    Args:
        shape: of the tensor.
        deviation: of its first values.
        zero: whether these are zeros instead; the step is the same.
    """

    def __init__(self, shape: Sequence[int], deviation: float, *, zero: bool = False) -> None:
        super().__init__()
        self.step = deviation / _FINENESS
        first = torch.zeros(tuple(shape)) if zero else deviation * torch.randn(tuple(shape))
        self.value = nn.Parameter(first)

    def forward(self) -> Tensor:
        """The weights as the file gives them back."""
        return straight_through(self.value, self.step * self._bounded().round())

    def whole(self) -> Tensor:
        """In steps: int64."""
        return self._bounded().detach().round().long()

    @torch.no_grad()
    def take(self, whole: Tensor) -> None:
        """Takes over what `whole` gave, of any shape with as many numbers."""
        self.value.copy_(self.step * whole.view_as(self.value).float())

    def size(self) -> Tensor:
        """The sum of the sizes of the whole weights, and their number: [2], without gradient."""
        size = self._bounded().detach().abs().round().sum()
        return torch.stack((size, torch.full_like(size, self.value.numel())))

    def bits(self, size: Tensor | None = None) -> Tensor:
        """About what the weights cost: code lengths under a Laplace law of their own mean size.

        Args:
            size: as `size` gives it, of a larger tensor of which these are a part.
        """
        total, count = (self.size() if size is None else size).unbind()
        mean, away = total / count, self._bounded().abs().sum()
        slope = 1.0 / (math.log(2.0) * mean.clamp(min=_LEAST_SCALE))
        change = away - away.detach()  # a zero that has the gradient
        return self.value.numel() * torch.log2(2.0 * math.e * mean + 1.0) + slope * change

    def _bounded(self) -> Tensor:
        return (self.value / self.step).clamp(-entropy.LARGEST, entropy.LARGEST)


class CodedConv(nn.Module):
    """A convolution whose weights are whole steps; with its own padding, so that sides stay.

    Args:
        into, out: channels.
        side: of the kernel, odd.
        zero: whether weights and biases start at zero.
    """

    def __init__(self, into: int, out: int, side: int, *, zero: bool = False) -> None:
        super().__init__()
        deviation = 1.0 / math.sqrt(3.0 * into * side * side)
        self.weight = CodedWeight((out, into, side, side), deviation, zero=zero)
        self.bias = CodedWeight((out,), deviation, zero=zero)
        self.padding = side // 2

    def forward(self, x: Tensor) -> Tensor:
        """Maps [n, into, h, w] to [n, out, h, w]."""
        return F.conv2d(x, self.weight(), self.bias(), padding=self.padding)


def coded_weights(network: nn.Module) -> list[CodedWeight]:
    """All weights of a network that are coded, in the order of its modules."""
    return [each for each in network.modules() if isinstance(each, CodedWeight)]


def encode(tensors: Sequence[np.ndarray]) -> tuple[bytes, np.ndarray]:
    """Whole numbers of several tensors as one stream.

    Args:
        tensors: int, of any shapes, within `entropy.LARGEST`.

    Returns:
        The stream, in words of four bytes, and uint8 [2, tensors], its parameters.

    Raises:
        InputError: the package that codes is not installed.
    """
    columns = [each.ravel() for each in tensors]
    odds = [entropy.fit(entropy.count(each[:, None])) for each in columns]
    return entropy.encode_columns(columns, [each[:, 0] for each in odds]), np.concatenate(odds, 1)


def decode(stream: bytes, odds: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """What `encode` was given, flat; whatever follows in the stream is ignored.

    Raises:
        ValueError: the stream is damaged.
        InputError: the package that decodes is not installed.
    """
    return entropy.decode_columns(stream, odds.T, lengths)
