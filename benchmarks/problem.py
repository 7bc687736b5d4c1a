"""Labelled features of a known shape, with what rivals may prepare from the labels beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.peers.keops import Blocks, blocks
from benchmarks.peers.padded import Padding
from gencond_fast import ClassLayout

# temperature, sigma or margin: the defaults of the public losses
PARAMETERS = {"infonce": 0.1, "rbf": 1.0, "hinge": 1.0, "nearest": 1.0}


class Shape(NamedTuple):
    """N samples of D features in C classes, of equal sizes or ragged."""

    samples: int
    width: int
    classes: int
    spread: str


def class_sizes(shape: Shape) -> Tensor:
    """[C] int64, all at least 1, of sum N.

    Ragged sizes follow u^2, u drawn from a uniform distribution in C strata with seed 0: the
    largest is about three times the mean, and many are small.
    """
    if shape.spread == "equal":
        weights = torch.ones(shape.classes, dtype=torch.float64)
    else:
        rng = torch.Generator().manual_seed(0)
        drawn = torch.rand(shape.classes, generator=rng, dtype=torch.float64)
        weights = ((torch.arange(shape.classes) + drawn) / shape.classes).square()
        weights = weights[torch.randperm(shape.classes, generator=rng)]
    share = weights.cumsum(0) / weights.sum()
    ends = (share * (shape.samples - shape.classes)).round().long()
    return 1 + ends.diff(prepend=ends.new_zeros(1))


@dataclass(frozen=True, eq=False)
class Problem:
    """One loss on one set of features.

    Attributes:
        kind: one of `losses.KINDS`; those that begin with "inter-" compare class centres.
        features: [N, D] float32.
        labels: [N] int64, unsorted, 0 ... C - 1, all present.
        counts: [C] int64, on the CPU.
    """

    kind: str
    features: Tensor
    labels: Tensor
    counts: Tensor

    @property
    def inter(self) -> bool:
        """Whether class centres are compared, not samples."""
        return self.kind.startswith("inter-")

    @property
    def pair_kind(self) -> str:
        """The kind as the losses call it."""
        return self.kind.removeprefix("inter-")

    @property
    def parameter(self) -> float:
        """Temperature, sigma or margin."""
        return PARAMETERS[self.pair_kind]

    @cached_property
    def order(self) -> Tensor:
        """[N] row numbers, class after class."""
        return torch.argsort(self.labels, stable=True)

    @cached_property
    def sizes(self) -> list[int]:
        """The counts as Python numbers."""
        return self.counts.tolist()

    @cached_property
    def padding(self) -> Padding:
        """The places of the rows when every class is padded to the largest."""
        counts = self.counts.to(self.labels.device)
        place = torch.arange(int(counts.max()), device=counts.device)
        valid = place < counts.unsqueeze(1)
        slots = torch.empty_like(self.order)
        slots[self.order] = valid.flatten().nonzero().squeeze(1)
        return Padding(slots, valid)

    @cached_property
    def blocks(self) -> Blocks:
        """The classes as KeOps wants them."""
        return blocks(self.order, self.counts.to(self.labels.device))

    @cached_property
    def layout(self) -> ClassLayout:
        """The classes as our own losses want them."""
        return ClassLayout.from_labels(self.labels)


def make_problem(kind: str, shape: Shape, device: str = "cpu") -> Problem:
    """Draws features, with seed 0, in which pairs of samples and of centres are about 1 apart.

    So neither side of a margin of 1 is empty, no exponential vanishes, and cosines are about 0.5.
    """
    rng = torch.Generator().manual_seed(0)
    counts = class_sizes(shape)
    labels = torch.arange(shape.classes).repeat_interleave(counts)
    labels = labels[torch.randperm(shape.samples, generator=rng)]
    centres = torch.randn(shape.classes, shape.width, generator=rng)
    features = torch.randn(shape.samples, shape.width, generator=rng).add_(centres[labels])
    features.div_((2 * shape.width) ** 0.5)
    return Problem(kind, features.to(device), labels.to(device), counts)
