"""The empirical characteristic function of the features of every class, at given frequencies.

phi_c(t) = E[exp(i t.f)] over the samples f of class c. Its parts E[cos t.f] and E[sin t.f] are
class means of `waves`, so whatever gives class moments gives it as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Characteristic:
    """Values of the characteristic function of every class.

    Attributes:
        frequencies: [K, D], the t_k.
        real: [C, K], E[cos t_k.f]; zeros for an empty class.
        imaginary: [C, K], E[sin t_k.f]; zeros for an empty class.
    """

    frequencies: Tensor
    real: Tensor
    imaginary: Tensor


def waves(features: Tensor, frequencies: Tensor) -> Tensor:
    """cos t_k.f and then sin t_k.f of every sample, [N, 2K].

    Args:
        features: [N, D] floating, gradients flow back to it.
        frequencies: [K, D] of the same dtype.
    """
    # in half precision an angle of some turns would be noise
    with torch.autocast(features.device.type, enabled=False):
        angle = features @ frequencies.T
    return torch.cat((angle.cos(), angle.sin()), 1)
