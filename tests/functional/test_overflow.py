"""Features whose squares overflow never give a finite loss, and never an error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import gencond_fast as gf

LABELS = torch.arange(24) % 4
KINDS = [("intra", kind) for kind in ("infonce", "rbf", "hinge", "nearest")]
KINDS += [("inter", kind) for kind in ("hinge", "infonce")]
implemented = pytest.mark.parametrize("impl", ["auto", "reference"])


def huge(how: str, dtype: torch.dtype) -> Tensor:
    x = torch.randn(24, 16, dtype=dtype)
    if how == "all":
        return x * (torch.finfo(dtype).max ** 0.5 * 2)
    if how == "largest":
        return torch.full_like(x, torch.finfo(dtype).max) * torch.randn(24, 1).sign()
    x[5, 3] = {"infinity": math.inf, "minus infinity": -math.inf, "one": torch.finfo(dtype).max}[
        how
    ]
    return x


HOWS = ["all", "largest", "infinity", "minus infinity", "one"]


@implemented
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("which", "kind"), KINDS)
def test_pair_losses(which: str, kind: str, how: str, dtype: torch.dtype, impl: str) -> None:
    torch.manual_seed(len(how))
    x = huge(how, dtype)
    function = gf.intra_class_loss if which == "intra" else gf.inter_class_loss
    assert not function(x, LABELS, kind=kind, impl=impl).isfinite()
    assert not function(x.requires_grad_(), LABELS, kind=kind, impl=impl).isfinite()


@implemented
@pytest.mark.parametrize("which", ["intra", "inter"])
def test_an_infinity_that_is_compared_with_nothing(which: str, impl: str) -> None:
    function = gf.intra_class_loss if which == "intra" else gf.inter_class_loss
    x = torch.randn(24, 16)
    x[0, 0] = math.inf
    labels = LABELS.clone() if which == "intra" else torch.zeros(24, dtype=torch.int64)
    if which == "intra":
        labels[0] = 77
    assert not function(x, labels, impl=impl).isfinite()


@implemented
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    "options", [{}, {"mean_weight": 0.0}, {"std_weight": 0.0}, {"stored": 30}], ids=str
)
def test_moment_matching(options: dict, how: str, impl: str) -> None:
    target = gf.class_moments(torch.randn(24, 16), LABELS, 4)
    x = huge(how, torch.float32)
    assert not gf.moment_matching_loss(x, LABELS, target, impl=impl, **options).isfinite()


@implemented
@pytest.mark.parametrize("how", HOWS)
def test_batchnorm_matching(how: str, impl: str) -> None:
    x = huge(how, torch.float32)
    loss = gf.batchnorm_matching_loss([x], [torch.zeros(16)], [torch.ones(16)], impl=impl)
    assert not loss.isfinite()


@implemented
def test_a_loss_that_float32_cannot_hold_is_infinite(impl: str) -> None:
    loss = gf.intra_class_loss(torch.randn(24, 16), LABELS, kind="hinge", margin=1e30, impl=impl)
    assert loss.isinf()
