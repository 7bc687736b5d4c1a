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
from gencond_fast.condensation.stage import OWNED, Stage
from gencond_fast.condensation.task import Task
from gencond_fast.store import law
from gencond_fast.store.block_set import rounded
from gencond_fast.store.generator import Generator
from gencond_fast.system.rng import named_rng
from gencond_fast.system.upload import upload

_LR = 3e-3  # peak, of network weights
_STEP_SCALE = 2.0  # of the logarithms of steps
CODING_BATCH = 32  # samples of a step
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

    moved: Tensor  # rows of the samples whose levels this rank changes
    own: Tensor  # which samples of the step are this rank's part of the work
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
        self._alone = partition.divided or partition.ranks.world_size == 1
        self._samples = partition.spec.samples
        self._batch = min(CODING_BATCH, self._samples)
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
            {"params": [store.codes], "scale": 0.0},
            {"params": list(store.context.parameters()), "scale": 1.6},
            {"params": list(store.synthesis.parameters()), "scale": 0.7},
            {"params": [store.log_steps], "scale": _STEP_SCALE},
        ]

    def terms(self, step: int) -> dict[str, Tensor]:
        """See `Stage`. The samples take turns: each is seen once in a round.

        Of several ranks each has the samples of its own classes.
        """
        store, partition = self._store, self._partition
        whole = step >= self._real_steps
        if step % _PRICE_EVERY == 0 and whole:
            done = (step - self._real_steps) / (self.steps - self._real_steps)
            store.update_price(partition.add, _EXCESS * max(0.0, 1.0 - done / _FILLED_AT))
        samples = self._samples_of(step)
        own = partition.is_own(samples)
        rows = upload(partition.rows(samples[own]), store.codes.device)
        moved = rows if self._alone else upload(partition.rows(samples), store.codes.device)
        codes = store.codes.detach()[rows]
        draws = upload(self._draws(step)[own], codes.device).to(codes)
        level = (codes.round() if whole else codes).requires_grad_()
        labels = store.labels(rows)
        images = self._decode(rounded(level), labels)
        error = (images - self._images[rows].to(images.device) / 255.0).square().sum()
        rated = level.detach() if whole else level + draws - 0.5
        with torch.no_grad() if whole else nullcontext():
            found = self._law(rated, labels)
            bits = law.bits(rated, found)
        learned = self._learned_bits(rated, labels, own) if whole else bits.sum()
        fixed = law.Law(*(each.detach() for each in found))
        self._seen = _Seen(moved, own, level, fixed, bits.detach(), draws)
        return {
            "pixel": error / (self._batch * self._images[0].numel()),
            "rate": store.price
            * (learned / self._batch + self._weight_bits(len(rows)) / self._samples),
        }

    def _samples_of(self, step: int) -> Tensor:
        first = step * self._batch
        rng = named_rng(self._task.config.seed, "coding", first // self._samples)
        order = torch.randperm(self._samples, generator=rng)
        return order[torch.arange(first, first + self._batch) % self._samples]

    def _draws(self, step: int) -> Tensor:
        """Uniform random numbers for all levels of the step, on any number of ranks the same."""
        rng = named_rng(self._task.config.seed, "coding draws", step)
        return torch.rand(self._batch, *self._store.codes.shape[1:], generator=rng)

    def _learned_bits(self, levels: Tensor, labels: Tensor, own: Tensor) -> Tensor:
        """Bits of whole levels, from a part of them: many more than the context has weights."""
        taken = -(-self._batch // _CONTEXT_PART)
        part = int(own[:taken].sum())
        found = self._law(levels[:part], labels[:part])
        return law.bits(levels[:part], found).sum() * (self._batch / taken)

    def _weight_bits(self, samples: int) -> Tensor:
        """The part in the bits of the weights of a rank that has so many samples of the step."""
        shared, own = self._store.weight_bits(self._partition.add)
        share = samples / self._batch
        return share * shared + (own if self._partition.divided else share * own)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """See `Stage`: moves the levels of the step."""
        seen, self._seen = self._seen, None
        if seen is None or seen.level.grad is None:
            raise RuntimeError("no step was taken before")
        gradient = seen.level.grad * self._batch
        if step >= self._real_steps:
            level = self._changed_by_one(seen, gradient)
            self._store.codes[seen.moved] = self._together(level, seen.own)
        else:
            self._descend(seen.moved, self._together(gradient, seen.own), step)

    def _together(self, values: Tensor, own: Tensor) -> Tensor:
        """Of this rank's samples of the step; of all of them where every rank keeps them all."""
        if self._alone:
            return values
        whole = values.new_zeros(self._batch, *values.shape[1:])
        whole[own.to(values.device)] = values
        self._partition.ranks.all_reduce([whole])
        return whole

    def _descend(self, rows: Tensor, gradient: Tensor, step: int) -> None:
        """A step of levels that are real numbers: momentum of each sample, a size of each band."""
        self._count[rows] += 1
        momentum = _MOMENTUM * self._momentum[rows] + (1 - _MOMENTUM) * gradient
        self._momentum[rows] = momentum
        square = gradient.square().sum((0, 2, 3)) / (self._batch * gradient.shape[2:].numel())
        self._partition.add([square])
        self._square.mul_(_SQUARES).add_((1 - _SQUARES) * square)
        size = (self._square / (1 - _SQUARES ** (step + 1))).sqrt().view(1, -1, 1, 1) + 1e-12
        seen = (1 - _MOMENTUM ** self._count[rows]).view(-1, 1, 1, 1)
        self._store.codes[rows] -= _LEVEL_RATE * self._factor(step) * momentum / seen / size

    def _changed_by_one(self, seen: _Seen, gradient: Tensor) -> Tensor:
        """Whole levels, changed by one where it lowers the loss, to second order, on its own."""
        store, level = self._store, seen.level
        curvature = store.steps().view(-1, 1, 1).square() / self._images[0].numel()
        gain, change = torch.zeros_like(level), torch.zeros_like(level)
        for by in (-1.0, 1.0):
            price = store.price * (law.bits(level + by, seen.found) - seen.bits)
            cost = gradient * by + curvature + price
            change = torch.where(cost < gain, by, change)
            gain = torch.minimum(gain, cost)
        return level + change * (seen.draws < _ACCEPTED)

    def _factor(self, step: int) -> float:
        done = step / self.steps
        return 1.0 if done < _DECAY_FROM else max(0.02, (1.0 - done) / (1.0 - _DECAY_FROM))

    def state_dict(self) -> dict[str, Any]:
        """See `Stage`."""
        owned = {"momentum": self._momentum, "count": self._count}
        return {OWNED: owned, "square": self._square}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Stage`."""
        self._momentum.copy_(state[OWNED]["momentum"])
        self._count.copy_(state[OWNED]["count"])
        self._square.copy_(state["square"])
