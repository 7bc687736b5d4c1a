"""Maximum mean discrepancy with Gaussian kernels, the discrepancy of M3D (2312.15927)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real
from gencond_fast.discrepancy.stack import labels_of, stack

_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


class MaximumMean(Discrepancy):
    """sum_c mean K(s, s') - 2 mean K(s, t) + mean K(t, t'), s generated and t real of class c.

    K(x, y) = sum_b exp(-|x - y|^2 / (b h)) over b = 1/4, 1/2, 1, 2, 4, where h is the mean squared
    distance between two different samples of the generated and real ones of the class together,
    without gradient. As in the authors' code the means are over all pairs, a sample with itself
    included, so that of small batches the distance is above zero even where both sides have the
    same distribution.
    """

    needs_samples: ClassVar[bool] = True

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        if real.samples is None:
            raise ValueError("mmd: prepare needs samples of the real classes.")
        self._real = real.samples

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        real, classes = self._real, len(self._real.counts)
        labels = labels_of(real.counts, real.features.device)
        made = stack(generated.features, generated.labels, classes, generated.most)
        true = stack(real.features, labels, classes, max(real.counts, default=0))
        both, there = (torch.cat(pair, 1) for pair in zip(made, true, strict=True))
        # +1/n for each generated sample, -1/m for each real one: the sum over all pairs of their
        # products with the kernel is the three means at once
        shares = [_shares(each[1]) for each in (made, true)]
        square = _squared_distances(both)
        weight = torch.cat((shares[0], -shares[1]), 1).to(square.dtype)
        kernel = _kernel(square, there)
        distance = torch.einsum("ci,cij,cj->c", weight, kernel, weight)
        comparable = made[1].any(1) & true[1].any(1)
        return torch.where(comparable, distance, 0.0).sum()


def _shares(there: Tensor) -> Tensor:
    """[C, n]: one over the samples of the class at each of them, 0 elsewhere."""
    return there / there.sum(1, keepdim=True).clamp(min=1)


def _squared_distances(samples: Tensor) -> Tensor:
    """[C, n, n] from [C, n, D], around the mean of each class so that little cancels."""
    samples = samples.float() if samples.dtype.itemsize < 4 else samples
    with torch.autocast(samples.device.type, enabled=False):
        samples = samples - samples.detach().mean(1, keepdim=True)
        norms = samples.square().sum(2)
        product = samples @ samples.transpose(1, 2)
        return (norms[:, :, None] + norms[:, None] - 2.0 * product).clamp(min=0)


def _kernel(square: Tensor, there: Tensor) -> Tensor:
    """[C, n, n], the sum of the five Gaussians; where no samples are it means nothing."""
    count = there.sum(1)
    pairs = there[:, :, None] & there[:, None]
    total = torch.where(pairs, square.detach(), 0.0).sum((1, 2))
    mean = total / (count * (count - 1)).clamp(min=1)
    mean = torch.where(mean > 0, mean, 1.0)  # all samples are the same
    scaled = square / mean[:, None, None]
    return torch.stack([(-scaled / b).exp() for b in _BANDWIDTHS]).sum(0)
