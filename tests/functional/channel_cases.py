"""Activations in every layout, and their moments by brute force."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LAYOUTS = ["contiguous", "channels last", "transposed", "some channels", "cropped", "expanded"]


class Exact(NamedTuple):
    mean: Tensor
    m2: Tensor


def in_layout(x: Tensor, layout: str) -> Tensor:
    """A tensor of the same shape and values (another sample repeated, if expanded)."""
    if layout == "channels last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "some channels":
        return x.repeat_interleave(2, 1)[:, ::2]
    if layout == "cropped":
        return torch.cat([x, x], -1)[..., : x.shape[-1]]
    if layout == "expanded":
        return x[:1].contiguous().expand(x.shape)
    return x.contiguous()


def brute_force(x: Tensor) -> Exact:
    """In extended precision, where the machine has it."""
    wide = x.detach().double().numpy().astype(np.longdouble)
    mean, m2 = np.zeros((2, x.shape[1]), dtype=np.longdouble)
    for c in range(x.shape[1]):
        values = wide[:, c].ravel()
        if values.size:
            mean[c] = values.sum() / values.size
            m2[c] = ((values - mean[c]) ** 2).sum()
    return Exact(*(torch.from_numpy(each.astype(np.float64)) for each in (mean, m2)))


def assert_moments(mean: Tensor, m2: Tensor, want: Exact, spread: float = 5.0) -> None:
    """Within the rounding of the result and a few roundings of what was summed.

    spread bounds the distance of an element from the mean of its channel; half-precision inputs are
    exact in float32, so they get no allowance of their own.
    """
    eps = torch.finfo(mean.dtype).eps
    error = (mean.double() - want.mean).abs()
    assert bool((error <= eps * (want.mean.abs() + 4 * spread)).all()), error.max()
    error = (m2.double() - want.m2).abs()
    assert bool((error <= 24 * eps * want.m2 + eps * eps * spread**2).all()), error.max()
