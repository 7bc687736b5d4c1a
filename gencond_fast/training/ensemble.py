"""Several students of one architecture in one batched network: each step is theirs all at once.

What keeps a fast device waiting for the launches of a small network is shared by all of them. On a
CPU, where a batched convolution becomes a grouped one, that costs more than it saves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from gencond_fast.errors import RunError
from gencond_fast.models.classifier import Classifier
from gencond_fast.system.rng import named_rng
from gencond_fast.system.runtime import Runtime
from gencond_fast.training.average import WeightAverage, averaged
from gencond_fast.training.epochs import Epochs
from gencond_fast.training.mixed import LabelViews, Mixed, mix
from gencond_fast.training.optimiser import build_optimizer, set_lr
from gencond_fast.training.protocol import Protocol


def train_together(
    students: Sequence[Classifier],
    data: Sequence[Epochs],
    *,
    protocol: Protocol,
    epochs: int,
    seeds: Sequence[int],
    runtime: Runtime,
    advance: Callable[[int], None],
    label_views: LabelViews | None = None,
) -> int:
    """Trains students in place as `train_student` does each, to rounding.

    Of a network with dropout only the distribution is the same.

    Args:
        students: K of one architecture, on the device of the runtime.
        data: what each sees, held, in as many images as the others.
        protocol: optimiser, augmentation, mixing, averaging.
        epochs: passes over the images.
        seeds: of each: augmentation, mixing, order of images.
        runtime: device, precision, compilation.
        advance: called after every epoch with K.
        label_views: labels what the students see, in place of the targets.

    Returns:
        The number of optimiser steps of each.

    Raises:
        RunError: the loss of a student stopped being a finite number.
        ValueError: the data are streamed, or not of the same number of steps.
    """
    if not all(each.held for each in data) or len({each.steps for each in data}) > 1:
        raise ValueError("students learn together from held images, as many each")
    group = _Group(students, protocol, runtime)
    losses = torch.zeros(len(students))
    for epoch in range(epochs):
        rngs = [named_rng(seed, "epoch", epoch) for seed in seeds]
        passes = [each.batches(epoch, rng) for each, rng in zip(data, rngs, strict=True)]
        for step, batches in enumerate(zip(*passes, strict=True)):
            mixed = [
                mix(images, targets, protocol, rng).labelled(label_views)
                for (images, targets), rng in zip(batches, rngs, strict=True)
            ]
            set_lr(group.optimizer, protocol, epoch, step, epochs=epochs, steps=data[0].steps)
            losses = group.step(mixed)
        advance(len(students))
    if not losses.isfinite().all():
        raise RunError("a student diverged: its loss is not finite in the last epoch")
    group.finish(students)
    return epochs * data[0].steps


class _Group:
    """Parameters and buffers of K networks, stacked along a first dimension."""

    def __init__(
        self, students: Sequence[Classifier], protocol: Protocol, runtime: Runtime
    ) -> None:
        self._runtime = runtime
        self._parameters, self._buffers = stack_module_state(list(students))
        self._frame = _batchable(copy.deepcopy(students[0]).train())
        self.optimizer = build_optimizer(self._parameters.values(), protocol)
        decay, live = protocol.ema_decay, averaged(self._state)
        self._average = None if decay is None else WeightAverage(live, decay)
        self._forward = runtime.compile(torch.vmap(self._one, randomness="different"))

    @property
    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self._parameters.items()} | self._buffers

    def step(self, mixed: Sequence[Mixed]) -> Tensor:
        """One step of the optimiser of all; returns their losses, float32 [K]."""
        images = torch.stack([each.images for each in mixed])
        with self._runtime.autocast():
            logits = self._forward(self._parameters, self._buffers, images)
        pairs = zip(mixed, logits.float().unbind(), strict=True)
        losses = torch.stack([each.loss(row) for each, row in pairs])
        self.optimizer.zero_grad()
        losses.sum().backward()  # no student's loss depends on another one's weights
        self.optimizer.step()
        if self._average is not None:
            self._average.update()
        return losses.detach()

    @torch.no_grad()
    def finish(self, students: Sequence[Classifier]) -> None:
        """Gives the students their weights, averaged if the protocol tests those."""
        if self._average is not None:
            self._average.put_in_place()
        state = self._state
        for number, student in enumerate(students):
            student.load_state_dict({name: value[number] for name, value in state.items()})

    def _one(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor
    ) -> Tensor:
        logits: Tensor = functional_call(self._frame, (parameters, buffers), (images,))
        return logits


class _InstanceNorm(nn.Module):
    """`GroupNorm` of one channel a group, in operations that vmap and the compiler know together.

    PyTorch's own asks for a memory format, which is not implemented there.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self._eps = norm.weight, norm.bias, norm.eps

    def forward(self, maps: Tensor) -> Tensor:
        wide = maps.float()
        variance, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
        scale = self.weight.view(-1, 1, 1) * torch.rsqrt(variance + self._eps)
        return ((wide - mean) * scale + self.bias.view(-1, 1, 1)).to(maps.dtype)


def _batchable(network: Classifier) -> Classifier:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm) and child.num_groups == child.num_channels:
                setattr(module, name, _InstanceNorm(child))
    return network
