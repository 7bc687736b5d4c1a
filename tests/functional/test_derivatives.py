"""Second derivatives, forward mode and torch.func: right, or refused in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import gencond_fast as gf
from gencond_fast.errors import InputError

torch.manual_seed(0)
LABELS = torch.randint(4, (24,))
LAYOUT = gf.ClassLayout.from_labels(LABELS)
TARGET = gf.class_moments(torch.randn(24, 5), LABELS, 4)
Function = Callable[..., Tensor]


def _intra(kind: str, labels=LABELS) -> Function:
    return lambda f, impl="auto": gf.intra_class_loss(f, labels, kind=kind, impl=impl)


def _inter(kind: str) -> Function:
    return lambda f, impl="auto": gf.inter_class_loss(f, LABELS, kind=kind, impl=impl)


def _moments(f: Tensor, impl="auto") -> Tensor:
    found = gf.class_moments(f, LABELS, 4, impl=impl)
    return found.m2.square().sum() + found.mean.sin().sum()


def _channels(f: Tensor, impl="auto") -> Tensor:
    found = gf.channel_moments(f, impl=impl)
    return found.m2.square().sum() + found.mean.sin().sum()


def _matching(f: Tensor, impl="auto") -> Tensor:
    return gf.moment_matching_loss(f, LABELS, TARGET, stored=30, impl=impl)


def _batchnorm(f: Tensor, impl="auto") -> Tensor:
    statistics = torch.full((5,), 0.3), torch.ones(5)
    return gf.batchnorm_matching_loss([f], *([each] for each in statistics), impl=impl)


FUNCTIONS: dict[str, Function] = {
    **{f"intra {kind}": _intra(kind) for kind in ("infonce", "rbf", "hinge", "nearest")},
    **{f"inter {kind}": _inter(kind) for kind in ("hinge", "infonce")},
    "layout": _intra("infonce", LAYOUT),
    "both": lambda f, impl="auto": sum(gf.class_losses(f, LABELS, impl=impl)),
    "class moments": _moments,
    "channel moments": _channels,
    "moment matching": _matching,
    "batchnorm matching": _batchnorm,
}
every = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def features() -> Tensor:
    return 0.6 * torch.randn(24, 5)


def slope(function: Function, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


@every
def test_create_graph_is_refused_whatever_the_upstream_gradient_is(function) -> None:
    x = features().requires_grad_()
    for scale in (torch.tensor(1.0), torch.tensor(2.0, requires_grad=True)):
        with pytest.raises(RuntimeError, match=r"no second derivative.*impl='reference'"):
            torch.autograd.grad(function(x), x, scale, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.functional.hessian(function, x)
    slope(function, x)  # and once is as good as ever


@every
def test_the_reference_has_second_derivatives(function) -> None:
    x, towards = features().double(), torch.randn(24, 5).double()
    _, found = torch.autograd.functional.hvp(lambda f: function(f, "reference"), x, towards)
    step = 1e-5 * towards
    exact = (slope(function, x + step) - slope(function, x - step)) / 2e-5
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


@every
def test_forward_mode_agrees_with_backward_mode(function) -> None:
    x, towards = features(), torch.randn(24, 5)
    want = (slope(function, x) * towards).sum()
    value, found = torch.func.jvp(function, (x,), (towards,))
    torch.testing.assert_close(value, function(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-4)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(function(forward_ad.make_dual(x, towards))).tangent
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-4)


@every
def test_grad_and_vmap_of_torch_func(function) -> None:
    several = torch.stack([features() for _ in range(3)])
    want = torch.stack([slope(function, x) for x in several])
    found = torch.func.vmap(torch.func.grad(function))(several)
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-5)
    values = torch.func.vmap(function)(several)
    torch.testing.assert_close(values, torch.stack([function(x) for x in several]))


@pytest.mark.parametrize("name", ["intra infonce", "inter hinge", "class moments"])
def test_a_hessian(name: str) -> None:
    function, x = FUNCTIONS[name], features().double()
    found = torch.func.hessian(function)(x)
    towards = torch.randn(24, 5).double()
    _, want = torch.autograd.functional.hvp(lambda f: function(f, "reference"), x, towards)
    product = (found * towards).sum((2, 3))
    torch.testing.assert_close(product, want)


@every
def test_fused_under_a_transform_is_refused(function) -> None:
    with pytest.raises(InputError, match="impl='reference'"):
        torch.func.grad(lambda f: function(f, "fused"))(features())


def test_batched_labels_work_or_say_so() -> None:
    several, labels = torch.randn(3, 24, 5), torch.randint(4, (3, 24))
    found = torch.func.vmap(gf.intra_class_loss)(several, labels)
    each = [gf.intra_class_loss(f, y) for f, y in zip(several, labels, strict=True)]
    torch.testing.assert_close(found, torch.stack(each))
    for loss in (gf.inter_class_loss, gf.class_losses):
        with pytest.raises(ValueError, match="over features alone"):
            torch.func.vmap(loss)(several, labels)
    with pytest.raises(IndexError):
        torch.func.vmap(lambda y: gf.class_moments(several[0], y, 3).m2)(labels)


def test_many_samples_are_refused_a_second_derivative_too() -> None:
    x = torch.randn(400, 32, requires_grad=True)
    loss = gf.intra_class_loss(x, torch.arange(400) % 3, kind="hinge", margin=9, impl="reference")
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        grad.square().sum().backward()
