"""geomloss: its Gaussian kernel norm of every padded class."""

from __future__ import annotations

import importlib

from torch import Tensor

from benchmarks.peers.padded import Padding


def geomloss(features: Tensor, padding: Padding, sigma: float) -> Tensor:
    """The intra-class loss of kind rbf."""
    library = importlib.import_module("geomloss")
    norm = library.SamplesLoss("gaussian", blur=sigma, backend="tensorized")
    x = padding.pad(features)
    weight = padding.valid.to(x.dtype)
    # half the kernel's sum over all pairs is left of the norm when the other measure is empty
    nothing = weight.new_zeros(len(weight), 1)
    total = 2 * norm(weight, x, nothing, x[:, :1].detach()).sum()
    size = weight.sum(1)
    return (total - size.sum()) / (size * (size - 1)).sum()
