"""Fits codes and networks of a generator to chosen real images, by rate and distortion alone.

First levels are real numbers, which gradients move; then they are whole, and each step changes by
one those for which gradient, curvature and code length say that it pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.stage import Stage
from gencond_fast.condensation.task import Task
from gencond_fast.store import law
from gencond_fast.store.generator import Generator, rounded
from gencond_fast.system.rng import named_rng

_LR = 3e-3  # peak, of network weights
_STEP_SCALE = 2.0  # of the logarithms of steps
_BATCH = 32
_REAL_SHARE = 0.1  # of the steps, in which levels are real numbers
_DECAY_FROM = 0.4  # of the steps, from where rates fall to a fiftieth
_LEVEL_RATE = 0.06  # of levels that are real numbers, in steps of the quantiser
_ACCEPTED = 0.5  # of the changes that pay alone: together they may not
_MOMENTUM, _SQUARES = 0.7, 0.98
_PRICE_EVERY = 20  # steps
_CONTEXT_PART = 4  # of the samples of a step one in so many teaches the context
# logarithm of the bytes when levels become whole over those there are, and the share of the steps
# from then on after which they are to fit
_EXCESS, _FILLED_AT = 0.2, 0.6  # steps


class _Seen(NamedTuple):
    """What a step hands to the change of its levels."""

    rows: Tensor
    level: Tensor
    found: law.Law
    bits: Tensor
    draws: Tensor


class CodeFit(Stage):
    """Squared error in pixels, and the price of the bytes.

    Args:
        task: options and machine.
        store: holds levels of `images`, by `init_from_images`.
        images: uint8 [n, channels, S, S], of what this rank keeps.
        steps: how many.
        partition: who keeps what.
    """

    name = "coding"
    clips = False

    def __init__(
        self,
        task: Task,
        store: Generator,
        images: Tensor,
        steps: int,
        partition: ClassPartition,
    ) -> None:
        super().__init__(steps, _LR)
        self._task, self._store, self._images = task, store, images
        self._partition = partition
        self._samples = partition.spec.samples
        self._batch = min(_BATCH, self._samples)
        self._real_steps = round(_REAL_SHARE * steps)
        codes = store.codes
        self._momentum = torch.zeros_like(codes)
        self._count = torch.zeros(len(codes), device=codes.device)
        self._square = torch.zeros(codes.shape[1], device=codes.device)
        self._seen: _Seen | None = None
        self._decode = task.runtime.compile(store.decode_unclamped)
        self._law = task.runtime.compile(store.context)

    @property
    def images_per_step(self) -> int:
        """See `Stage`."""
        return self._batch

    def lr_at(self, step: int) -> float:
        """Constant, then a linear fall."""
        return self.lr * self._factor(step)

    def parameters(self) -> list[dict[str, Any]]:
        """See `Stage`: networks and steps; levels move by rules of their own."""
        store = self._store
        return [
            {"params": list(store.context.parameters()), "scale": 1.6},
            {"params": list(store.synthesis.parameters()), "scale": 0.7},
            {"params": [store.log_steps], "scale": _STEP_SCALE},
        ]

    def terms(self, step: int) -> dict[str, Tensor]:
        """See `Stage`. The samples take turns: each is seen once in a round."""
        store = self._store
        if step % _PRICE_EVERY == 0 and step >= self._real_steps:
            done = (step - self._real_steps) / (self.steps - self._real_steps)
            store.update_price(self._partition.add, _EXCESS * max(0.0, 1.0 - done / _FILLED_AT))
        seed = self._task.config.seed
        order = torch.randperm(
            self._samples, generator=named_rng(seed, "coding", step * self._batch // self._samples)
        )
        place = torch.arange(step * self._batch, (step + 1) * self._batch) % self._samples
        samples = order[place]
        rows = self._partition.rows(samples[self._partition.is_own(samples)])
        rows = rows.to(store.codes.device)
        whole = step >= self._real_steps
        codes = store.codes.detach()[rows]
        draws = torch.rand(codes.shape, generator=named_rng(seed, "coding draws", step)).to(codes)
        level = (codes.round() if whole else codes).requires_grad_()
        labels = store.labels(rows)
        images = self._decode(rounded(level), labels)
        error = (images - self._images[rows].to(images.device) / 255.0).square().sum()
        rated = level.detach() if whole else level + draws - 0.5
        with torch.no_grad() if whole else nullcontext():
            found = self._law(rated, labels)
            bits = law.bits(rated, found)
        learned = self._learned_bits(rated, labels) if whole else bits.sum()
        self._seen = _Seen(
            rows, level, law.Law(*(each.detach() for each in found)), bits.detach(), draws
        )
        share = 1.0 / self._batch
        pixels = self._images[0].numel()
        weighed = store.weight_bits() * (self._batch / self._samples) * (len(rows) * share)
        return {
            "pixel": error * (share / pixels),
            "rate": store.price * (learned * share + weighed * share),
        }

    def _learned_bits(self, levels: Tensor, labels: Tensor) -> Tensor:
        """Bits of whole levels, from a part of them: many more than the context has weights."""
        part = -(-len(levels) // _CONTEXT_PART)
        found = self._law(levels[:part], labels[:part])
        return law.bits(levels[:part], found).sum() * (len(levels) / max(part, 1))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """See `Stage`: moves the levels of the step."""
        if self._seen is None or not len(self._seen.rows):
            return
        gradient = self._seen.level.grad * self._batch
        if step >= self._real_steps:
            self._change_by_one(gradient)
        else:
            self._descend(gradient, step)
        self._seen = None

    def _descend(self, gradient: Tensor, step: int) -> None:
        """A step of levels that are real numbers: momentum of each sample, a size of each band."""
        rows = self._seen.rows
        self._count[rows] += 1
        momentum = _MOMENTUM * self._momentum[rows] + (1 - _MOMENTUM) * gradient
        self._momentum[rows] = momentum
        square = gradient.square().mean((0, 2, 3))
        self._square.mul_(_SQUARES).add_((1 - _SQUARES) * square)
        size = (self._square / (1 - _SQUARES ** (step + 1))).sqrt().view(1, -1, 1, 1) + 1e-12
        seen = (1 - _MOMENTUM ** self._count[rows]).view(-1, 1, 1, 1)
        self._store.codes[rows] -= _LEVEL_RATE * self._factor(step) * momentum / seen / size

    def _change_by_one(self, gradient: Tensor) -> None:
        """Changes whole levels by one where it lowers the loss, to second order, on its own."""
        store, (rows, level, found, bits, draws) = self._store, self._seen
        curvature = store.steps().view(-1, 1, 1).square() / self._images[0].numel()
        gain, change = torch.zeros_like(level), torch.zeros_like(level)
        for by in (-1.0, 1.0):
            price = store.price * (law.bits(level + by, found) - bits)
            cost = gradient * by + curvature + price
            change = torch.where(cost < gain, by, change)
            gain = torch.minimum(gain, cost)
        store.codes[rows] = level + change * (draws < _ACCEPTED)

    def _factor(self, step: int) -> float:
        done = step / self.steps
        return 1.0 if done < _DECAY_FROM else max(0.02, (1.0 - done) / (1.0 - _DECAY_FROM))

    def state_dict(self) -> dict[str, Any]:
        """See `Stage`."""
        return {"momentum": self._momentum, "count": self._count, "square": self._square}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Stage`."""
        self._momentum.copy_(state["momentum"])
        self._count.copy_(state["count"])
        self._square.copy_(state["square"])
