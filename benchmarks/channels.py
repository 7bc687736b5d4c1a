"""Moments of channels, and the loss that matches them: the C++ ops against PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import gencond_fast as gf
from benchmarks.case import Case

SHAPES = [(128, 128, 32, 32), (64, 512, 8, 8)]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MODES = ("forward", "forward+backward", "matching")

Outputs = tuple[Tensor, ...]
Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

_DIMS = (0, 2, 3)
_NO_GRADIENT = "its statistics have no gradient"


def cases(device: str = "cpu") -> Iterator[Case]:
    """Both layouts of several activations, once all providers agree.

    The modes are mean and biased variance ("forward"), with their gradient ("forward+backward"),
    and the matching loss of one layer with its gradient ("matching").

    Raises:
        AssertionError: a provider computes something else; the message names it.
    """
    for shape in SHAPES:
        for layout, memory in LAYOUTS.items():
            rng = torch.Generator().manual_seed(0)
            x = torch.randn(shape, generator=rng).add(1).to(device, memory_format=memory)
            for mode in MODES:
                calls = providers(x, mode)
                check({name: call() for name, call in calls.items()})
                key: dict[str, object] = {
                    "shape": "x".join(map(str, shape)),
                    "layout": layout,
                    "mode": mode,
                }
                skipped = {"F.batch_norm": _NO_GRADIENT} if mode == "forward+backward" else {}
                yield Case(key, dict(calls), skipped)


def providers(x: Tensor, mode: str) -> Mapping[str, Callable[[], Outputs]]:
    """Ways to the statistics of x, their gradient or the gradient of the loss, ours first."""
    if mode == "matching":
        return {
            "gencond_fast": partial(_matching, _our_loss, x),
            "DeepInversion's hook": partial(_matching, _hook, x),
            "DeepInversion's hook compiled": partial(_matching, torch.compile(_hook), x),
            "read, copy (floor)": partial(_floor, x, copy=True),
        }
    statistics: dict[str, Statistics] = {
        "gencond_fast": _ours,
        "var_mean": _var_mean,
        "var_mean compiled": torch.compile(_var_mean),
        "two passes": _two_pass,
    }
    if mode == "forward":
        statistics["F.batch_norm"] = _batch_norm
        call, copy = _forward, False
    else:
        call, copy = _with_gradient, True
    floor = {"read, copy (floor)" if copy else "read (floor)": partial(_floor, x, copy=copy)}
    return {name: partial(call, each, x) for name, each in statistics.items()} | floor


def check(outputs: Mapping[str, Outputs]) -> None:
    """Raises AssertionError unless all providers agree with the eager rival listed second."""
    reference = list(outputs.values())[1]
    for name, found in outputs.items():
        if "floor" in name:
            continue
        for one, other in zip(found, reference, strict=True):
            size = float(other.abs().max())
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * size, msg=name)


def _forward(statistics: Statistics, x: Tensor) -> Outputs:
    return statistics(x)


def _with_gradient(statistics: Statistics, x: Tensor) -> Outputs:
    leaf = x.detach().requires_grad_()
    outputs = statistics(leaf)
    upstream = [torch.linspace(-1, 1, len(each), device=x.device) for each in outputs]
    return torch.autograd.grad(outputs, leaf, upstream)


def _matching(loss: Loss, x: Tensor) -> Outputs:
    leaf = x.detach().requires_grad_()
    remembered = torch.linspace(0.5, 1.5, x.shape[1], device=x.device)
    value = loss(leaf, remembered, remembered)
    return value.detach(), *torch.autograd.grad(value, leaf)


def _ours(x: Tensor) -> tuple[Tensor, Tensor]:
    moments = gf.channel_moments(x, impl="fused")
    return moments.mean, moments.variance()


def _var_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, _DIMS, correction=0)
    return mean, variance


def _two_pass(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(_DIMS, keepdim=True)
    return mean.flatten(), (x - mean).square().mean(_DIMS)


def _batch_norm(x: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = torch.zeros(2, x.shape[1], device=x.device)
    F.batch_norm(x, mean, variance, training=True, momentum=1.0)
    count = x.numel() // x.shape[1]
    return mean, variance * ((count - 1) / count)


def _our_loss(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return gf.batchnorm_matching_loss([x], [mean], [variance], impl="fused")


def _hook(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    # as DeepInversion (arXiv 1912.08795) has it, and SRe2L after it
    batch_mean = x.mean(_DIMS)
    by_channel = x.permute(1, 0, 2, 3).contiguous().view(x.shape[1], -1)
    batch_variance = by_channel.var(1, unbiased=False)
    return torch.norm(variance - batch_variance, 2) + torch.norm(mean - batch_mean, 2)


def _floor(x: Tensor, copy: bool) -> Outputs:
    return x.sum(), x.clone() if copy else x
