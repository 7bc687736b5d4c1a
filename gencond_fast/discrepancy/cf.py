"""Distance between characteristic functions, the discrepancy of NCFM (2502.20653)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real
from gencond_fast.functional.characteristic import waves
from gencond_fast.functional.moments import class_moments

_ROUNDING = 1e-3  # where the root turns into a parabola


class CharacteristicFunction(Discrepancy):
    """sum_c mean_k sqrt(a (|p| - |q|)^2 + (1 - a) 2 |p| |q| (1 - cos(arg p - arg q))).

    p and q are the characteristic functions of the real and the generated samples of class c at
    frequency t_k; the first term compares amplitudes, the second one phases. Both together are
    |p - q|^2, so that the sum is (1 - a) |p - q|^2 + (2 a - 1) (|p| - |q|)^2, which has no
    differences of large numbers for a = 1/2. The form and the root are those of the authors'
    code; they draw frequencies at every step and let a network learn them, here they are the
    fixed ones of the statistics. The root is that of x + r^2, less r = 0.001, which is smooth at
    0. Of a draw from the stored samples it is the distance of the draw: the variance of a draw
    cannot be taken off under the root as it is in `Mean`.

    Args:
        amplitude: a, the weight of amplitudes against phases, 0 ... 1.

    Raises:
        ValueError: the weight is out of range.
    """

    needs_characteristic: ClassVar[bool] = True

    def __init__(self, amplitude: float = 0.5) -> None:
        if not 0.0 <= amplitude <= 1.0:
            raise ValueError(f"cf: amplitude must lie in 0 ... 1, got {amplitude}.")
        self._amplitude = amplitude

    def prepare(self, real: Real) -> None:
        """See `Discrepancy.prepare`."""
        if real.characteristic is None:
            raise ValueError("cf: prepare needs the characteristic function of the real classes.")
        self._count = real.moments.count
        self._real = real.characteristic

    def loss(self, generated: Generated) -> Tensor:
        """See `Discrepancy.loss`."""
        real = self._real
        columns = waves(generated.features, real.frequencies)
        mean = class_moments(columns, generated.labels, len(real.real)).mean
        made = torch.stack(mean.chunk(2, 1))  # [2, C, K]
        true = torch.stack((real.real, real.imaginary))
        a = self._amplitude
        square = (1 - a) * (made - true).square().sum(0)
        square = square + (2 * a - 1) * (_length(made) - _length(true)).square()
        root = (square.clamp(min=0) + _ROUNDING**2).sqrt() - _ROUNDING
        both = (self._count > 0) & (generated.moments.count > 0)
        return torch.where(both, root.mean(1), 0.0).sum()


def _length(pair: Tensor) -> Tensor:
    """sqrt(x^2 + y^2) of [2, ...], with gradient 0 at 0."""
    square = pair.square().sum(0)
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())
