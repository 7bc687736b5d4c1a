"""Class moments: the C++ op against what PyTorch users write."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import gencond_fast as gf
from benchmarks.case import Case

SHAPES = [(20_000, 512, 10), (20_000, 512, 1000), (10_000, 2048, 10), (20_000, 64, 100)]

Moments = tuple[Tensor, Tensor]


def cases() -> Iterator[Case]:
    """Ragged, unsorted classes of several sizes, once all providers agree.

    Raises:
        AssertionError: a provider computes something else; the message names it.
    """
    for samples, width, classes in SHAPES:
        rng = torch.Generator().manual_seed(0)
        features = torch.randn(samples, width, generator=rng)
        labels = (torch.rand(samples, generator=rng).square() * classes).long()
        calls = providers(features, labels, classes)
        check({name: call() for name, call in calls.items()})
        yield Case({"samples": samples, "width": width, "classes": classes}, dict(calls))


def providers(features: Tensor, labels: Tensor, classes: int) -> dict[str, Callable[[], Moments]]:
    """Ways to the mean and the sum of squared deviations of every class, ours first."""
    compiled = torch.compile(_two_pass)
    copied = torch.empty_like(features)
    return {
        "gencond_fast": lambda: _ours(features, labels, classes),
        "index_add (two passes)": lambda: _two_pass(features, labels, classes),
        "index_add compiled": lambda: compiled(features, labels, classes),
        "loop of var_mean": lambda: _loop(features, labels, classes),
        "read once (floor)": lambda: (features.sum(), labels),
        "read and written once (floor)": lambda: (copied.copy_(features), labels),
    }


def check(outputs: dict[str, Moments]) -> None:
    """Raises AssertionError unless all providers agree with the two-pass form."""
    reference = outputs["index_add (two passes)"]
    for name, moments in outputs.items():
        if "floor" in name:
            continue
        for found, expected in zip(moments, reference, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3, msg=name)


def _ours(features: Tensor, labels: Tensor, classes: int) -> Moments:
    moments = gf.class_moments(features, labels, classes, impl="fused")
    return moments.mean, moments.m2


def _two_pass(features: Tensor, labels: Tensor, classes: int) -> Moments:
    zeros = features.new_zeros(classes, features.shape[1])
    count = torch.bincount(labels, minlength=classes).clamp(min=1)[:, None]
    mean = zeros.index_add(0, labels, features) / count
    return mean, zeros.index_add(0, labels, (features - mean[labels]).square())


def _loop(features: Tensor, labels: Tensor, classes: int) -> Moments:
    mean = features.new_zeros(classes, features.shape[1])
    m2 = torch.zeros_like(mean)
    for label in range(classes):
        rows = features[labels == label]
        if len(rows):
            variance, mean[label] = torch.var_mean(rows, 0, correction=0)
            m2[label] = variance * len(rows)
    return mean, m2
