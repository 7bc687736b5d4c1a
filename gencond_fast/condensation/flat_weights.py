"""All weights of a network in one row of memory, so that one copy replaces them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatWeights:
    """Makes the parameters of a network views of one tensor [P], each with the strides it had.

    Rows of weights that experts left have the elements of each parameter in the order of its
    indices. In memory they may lie otherwise: channels last. `order` translates, once a step.

    Attributes:
        parameters: of the network, in its order.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self._permuted = [_last(each) for each in self.parameters]
        self._flat = torch.empty(
            sum(each.numel() for each in self.parameters), device=self.parameters[0].device
        )
        sizes = [each.numel() for each in self.parameters]
        places = torch.arange(len(self._flat), device=self._flat.device).split(sizes)
        order = [
            _in_memory(place.view(each.shape), permuted)
            for place, each, permuted in zip(places, self.parameters, self._permuted, strict=True)
        ]
        self._order = torch.cat(order) if any(self._permuted) else None
        for each, part, permuted in zip(
            self.parameters, self._flat.split(sizes), self._permuted, strict=True
        ):
            part.copy_(_in_memory(each.detach(), permuted))
            if permuted:
                count, channels, height, width = each.shape
                each.data = part.view(count, height, width, channels).permute(0, 3, 1, 2)
            else:
                each.data = part.view(each.shape)

    def order(self, row: Tensor) -> Tensor:
        """A row [P] of weights as they lie in memory here."""
        return row if self._order is None else row[self._order]

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors like the parameters as such a row."""
        return torch.cat([_in_memory(*each) for each in zip(tensors, self._permuted, strict=True)])

    @torch.no_grad()
    def put_in_place(self, row: Tensor) -> None:
        """Gives all parameters other values: [P], as they lie in memory."""
        self._flat.copy_(row)


def _last(parameter: Tensor) -> bool:
    """Whether the channels of a parameter lie last in memory."""
    last = torch.channels_last
    return (
        parameter.dim() == 4
        and not parameter.is_contiguous()
        and (parameter.is_contiguous(memory_format=last))
    )


def _in_memory(tensor: Tensor, permuted: bool) -> Tensor:
    return (tensor.permute(0, 2, 3, 1) if permuted else tensor).flatten()
