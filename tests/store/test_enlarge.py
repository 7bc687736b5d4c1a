"""Nearest neighbours as PyTorch defines them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gencond_fast.store.generator import enlarge


@pytest.mark.parametrize(("side", "size"), [(1, 2), (4, 8), (4, 7), (7, 14), (5, 5), (14, 28)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_as_interpolate(side: int, size: int, memory: torch.memory_format) -> None:
    x = torch.randn(2, 3, side, side, dtype=torch.float64).contiguous(memory_format=memory)
    grad = torch.randn(2, 3, size, size, dtype=torch.float64)
    results = []
    for function in (
        lambda leaf: enlarge(leaf, size),
        lambda leaf: F.interpolate(leaf, size=(size, size), mode="nearest"),
    ):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        results.append((out, *torch.autograd.grad(out, leaf, grad)))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
