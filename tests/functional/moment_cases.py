"""What the tests of class moments share: types, a brute force, and how near to it is near."""

from __future__ import annotations

import torch
from torch import Tensor

import gencond_fast as gf
from gencond_fast import _ext

# without the extension the ops are the reference, and all of the tests must hold for them too
ISAS = _ext.build_info().get("cpu_isas", "none").split(",")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def set_isa(name: str) -> None:
    if _ext.module is not None:
        _ext.module.set_cpu_isa(name)


def brute_force(x: Tensor, labels: Tensor, num_classes: int) -> gf.ClassMoments:
    count = torch.zeros(num_classes, dtype=torch.int64)
    mean = torch.zeros(num_classes, x.shape[1], dtype=torch.float64)
    m2 = torch.zeros_like(mean)
    for c in range(num_classes):
        rows = x.double()[labels == c]
        count[c] = len(rows)
        if len(rows):
            mean[c] = rows.mean(0)
            m2[c] = (rows - mean[c]).square().sum(0)
    return gf.ClassMoments(count, mean, m2)


def assert_moments(got: gf.ClassMoments, want: gf.ClassMoments, spread: float = 5.0) -> None:
    """Within the rounding of the result and a few roundings of what was summed.

    spread bounds the distance of a sample from its class mean; half-precision inputs are exact in
    float32, so they get no allowance of their own.
    """
    eps = torch.finfo(got.mean.dtype).eps
    assert torch.equal(got.count, want.count)
    error = (got.mean.double() - want.mean).abs()
    assert bool((error <= eps * (want.mean.abs() + 4 * spread)).all()), error.max()
    error = (got.m2.double() - want.m2).abs()
    assert bool((error <= 24 * eps * want.m2 + eps * eps * spread**2).all()), error.max()


def with_layout(x: Tensor, layout: str) -> Tensor:
    """[n, d] out of the [2n, 2d] given, laid out in memory as asked."""
    n, d = len(x) // 2, x.shape[1] // 2
    return {
        "dense": x[:n, :d].contiguous(),
        "transposed": x[:n, :d].T.contiguous().T,
        "rows": x[::2, :d],
        "columns": x[:n, ::2],
    }[layout]
