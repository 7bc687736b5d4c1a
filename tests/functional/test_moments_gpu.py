"""Class moments on a CUDA device, by the extension's kernels where they were built."""

from __future__ import annotations

import pytest
import torch
from moment_cases import DTYPES, assert_moments, brute_force
from torch import Tensor

import gencond_fast as gf

pytestmark = pytest.mark.gpu

SHAPES = [(1, 1, 1), (700, 130, 7), (5000, 33, 2), (2100, 257, 900)]


def samples(n: int, d: int, c: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    labels = (torch.rand(n) ** 2 * c).long()
    return (torch.randn(n, d) + 10).to(dtype), labels


def on_cpu(moments: gf.ClassMoments) -> gf.ClassMoments:
    return gf.ClassMoments(*(table.cpu() for table in moments.tables))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "c"), SHAPES)
def test_moments_and_gradient(n: int, d: int, c: int, dtype: torch.dtype) -> None:
    x, labels = samples(n, d, c, dtype)
    leaf = x.cuda().requires_grad_()
    found = gf.class_moments(leaf, labels.cuda(), c)
    again = gf.class_moments(leaf, labels.cuda(), c)
    assert torch.equal(found.m2, again.m2)
    exact = x.double().requires_grad_()
    want = gf.class_moments(exact, labels, c, impl="reference")
    assert_moments(
        gf.ClassMoments(*(table.detach().cpu() for table in found.tables)),
        brute_force(x, labels, c),
        spread=20.0,
    )
    weights = torch.randn(2, c, d)
    (slope,) = torch.autograd.grad((want.mean * weights[0] + want.m2 * weights[1]).sum(), exact)
    weights = weights.cuda()
    (grad,) = torch.autograd.grad((found.mean * weights[0] + found.m2 * weights[1]).sum(), leaf)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(grad.cpu().double(), slope, rtol=2 * eps, atol=1e-4)


@pytest.mark.parametrize("table", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "c"), SHAPES)
def test_update(n: int, d: int, c: int, dtype: torch.dtype, table: torch.dtype) -> None:
    x, labels = samples(n, d, c, dtype)
    moments = gf.ClassMoments.zeros(c + 1, d, dtype=table, device="cuda")
    moments.mean[c] = torch.nan  # of a class in no batch
    for rows, own in zip(x.cuda().split(600), labels.cuda().split(600), strict=True):
        moments.update_(rows, own)
    got, want = on_cpu(moments), brute_force(x, labels, c)
    assert torch.equal(got.count[:c], want.count)
    assert got.mean[c].isnan().all()
    torch.testing.assert_close(got.mean[:c].double(), want.mean, rtol=2e-6, atol=1e-5)
    torch.testing.assert_close(got.m2[:c].double(), want.m2, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matching_loss(dtype: torch.dtype) -> None:
    x, labels = samples(900, 70, 6, dtype)
    target = gf.class_moments(*samples(500, 70, 6, torch.float32), 6)
    losses, grads = [], []
    for device in ("cpu", "cuda"):
        leaf = x.to(device).requires_grad_()
        wanted = gf.ClassMoments(*(table.to(device) for table in target.tables))
        loss = gf.moment_matching_loss(leaf, labels.to(device), wanted, stored=900)
        losses.append(loss.detach().cpu())
        grads += [grad.cpu() for grad in torch.autograd.grad(loss, leaf)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-2, atol=1e-5)
