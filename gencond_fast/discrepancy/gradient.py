"""Distance between the gradients that real and generated images of a class give a network."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from gencond_fast.discrepancy.base import Discrepancy, Generated, Network, Real
from gencond_fast.discrepancy.stack import labels_of, stack
from gencond_fast.system.upload import upload

_LEAST = 1e-6  # of a product of norms, as in the authors' code


class Gradient(Discrepancy):
    """sum_c sum_l sum_i (1 - a_i . b_i / (|a_i| |b_i|)), the distance of DC (2006.05929, eq. 10).

    a and b are the gradients of the mean cross-entropy of the real and of the generated images of
    class c towards the weights of layer l, and i runs over the rows of the layer, one for each of
    its outputs. Weights of one dimension (biases, norms) are left out, as in the authors' code.
    The network stays in evaluation mode. The distance is differentiated through the gradients b,
    in float32 or better and without `torch.compile`, which does not differentiate twice.
    """

    needs_images: ClassVar[bool] = True

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        if real.images is None or real.network is None:
            raise ValueError("gradient: prepare needs real images and their network.")
        images, counts = real.images.images, real.images.counts
        labels = labels_of(counts, images.device)
        self._network = real.network
        with torch.no_grad():
            self._real = class_gradients(real.network, images, labels, max(counts, default=0))
        self._there = upload(torch.tensor(counts) > 0, images.device)

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        if generated.images is None:
            raise ValueError("gradient: loss needs generated images.")
        made = class_gradients(self._network, generated.images, generated.labels, generated.most)
        pairs = zip(made, self._real, strict=True)
        distance = torch.stack([self._distance(a.flatten(2), b.flatten(2)) for a, b in pairs])
        both = self._there & (generated.moments.count > 0)
        return torch.where(both, distance.sum(0), 0.0).sum()

    @staticmethod
    def _distance(made: Tensor, real: Tensor) -> Tensor:
        """[C] of the gradients [C, rows, columns] of one layer."""
        norms = torch.linalg.vector_norm(made, dim=2) * torch.linalg.vector_norm(real, dim=2)
        return (1 - (made * real).sum(2) / (norms + _LEAST)).sum(1)


class GradientSquared(Gradient):
    """sum_c sum_l |a - b|^2, the squared form of IDC (2205.14959); see `Gradient`."""

    @staticmethod
    def _distance(made: Tensor, real: Tensor) -> Tensor:
        return (made - real).square().sum((1, 2))


class GradientAbsolute(Gradient):
    """sum_c sum_l |a - b|_1, the l1 form of IDC (2205.14959); see `Gradient`."""

    @staticmethod
    def _distance(made: Tensor, real: Tensor) -> Tensor:
        return (made - real).abs().sum((1, 2))


def class_gradients(
    network: Network, images: Tensor, labels: Tensor, most: int | None
) -> list[Tensor]:
    """Gradients of the mean cross-entropy of each class towards the weights of each layer.

    Args:
        network: whose weights these are.
        images: [B, channels, S, S], gradients flow back to it.
        labels: [B] int64 in 0 ... C-1, in any order.
        most: no class has more images; None stands for B.

    Returns:
        [C, rows, ...] for every weight of two dimensions or more; zeros for a class of none.
    """
    classifier, outputs = network.classifier, network.outputs
    stacked, there = stack(images.flatten(1), labels, len(outputs), most)
    stacked = stacked.unflatten(2, images.shape[1:])
    share = there.to(stacked.dtype) / there.sum(1, keepdim=True).clamp(min=1)
    weights = {name: w.detach() for name, w in classifier.named_parameters() if w.dim() > 1}

    def loss(weights: dict[str, Tensor], images: Tensor, share: Tensor, output: Tensor) -> Tensor:
        logits = functional_call(classifier, weights, (images,))
        each = F.cross_entropy(logits, output.expand(len(images)), reduction="none")
        return (share * each).sum()

    with torch.autocast(images.device.type, enabled=False):
        gradients = vmap(grad(loss), in_dims=(None, 0, 0, 0))(weights, stacked, share, outputs)
    return list(gradients.values())
