"""One classifier trained from scratch under a protocol, an epoch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.data.augment import augment, draw_from_policy
from gencond_fast.data.mixing import Mixing, cutmix, draw_cutmix
from gencond_fast.errors import RunError
from gencond_fast.evaluation.average import WeightAverage
from gencond_fast.evaluation.epochs import Epochs
from gencond_fast.evaluation.optimiser import build_optimizer, rate_at
from gencond_fast.evaluation.protocol import Protocol
from gencond_fast.models.classifier import Classifier
from gencond_fast.rng import named_rng
from gencond_fast.runtime import Runtime


class Trainer:
    """Takes a network through epochs; all randomness is named by the epoch.

    Args:
        network: on the device of the runtime; trained in place.
        data: what it sees.
        protocol: optimiser, augmentation, mixing, averaging.
        epochs: of the whole training, on which the learning rate depends.
        seed: of augmentation and mixing, and of the order of images that are held.
        runtime: device, precision, compilation.
    """

    def __init__(
        self,
        network: Classifier,
        data: Epochs,
        *,
        protocol: Protocol,
        epochs: int,
        seed: int,
        runtime: Runtime,
    ) -> None:
        self._network = network
        self._data = data
        self._protocol = protocol
        self._epochs = epochs
        self._seed = seed
        self._runtime = runtime
        self._optimizer = build_optimizer(network, protocol)
        decay = protocol.average
        self._average = None if decay is None else WeightAverage(network, decay)
        self._forward = runtime.compile(network.forward)
        self._loss = torch.zeros(())

    def run_epoch(self, epoch: int, after: Callable[[int], None] | None = None) -> int:
        """Trains for epoch 0 … epochs - 1 and returns its number of steps.

        Args:
            epoch: which.
            after: called after each step with its number within the epoch.
        """
        self._network.train()
        rng = named_rng(self._seed, "epoch", epoch)
        step = -1
        for step, (images, targets) in enumerate(self._data.batches(epoch, rng)):
            rate = rate_at(self._protocol, epoch, step, epochs=self._epochs, steps=self._data.steps)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._step(images, targets, rng)
            if after is not None:
                after(step)
        return step + 1

    def check(self, name: str) -> None:
        """Raises RunError, calling the network `name`, if its last loss is not a finite number."""
        if not self._loss.isfinite():
            raise RunError(f"{name} diverged: its loss is not finite in the last epoch")

    def finish(self) -> None:
        """Puts the averaged weights in place, if the protocol tests those."""
        if self._average is not None:
            self._average.put_in_place()

    def state_dict(self) -> dict[str, Any]:
        """What the epochs to come depend on."""
        average = self._average
        return {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if average is None else average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from the state of another trainer with the same arguments."""
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])

    def _step(self, images: Tensor, targets: Tensor, rng: torch.Generator) -> None:
        loss = self._batch_loss(self._augmented(images, rng), targets, rng)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        self._loss = loss.detach()

    def _batch_loss(self, images: Tensor, targets: Tensor, rng: torch.Generator) -> Tensor:
        mixing = self._draw_mixing(len(images), rng)
        if mixing is None:
            return F.cross_entropy(self._logits(images), targets)
        images, own, other, share = cutmix(images, targets, mixing)
        return mixed_loss(self._logits(images), own, other, share)

    def _logits(self, images: Tensor) -> Tensor:
        batch = self._runtime.arrange(images)
        with self._runtime.autocast():
            logits = self._forward(batch)
        return logits.float()

    def _draw_mixing(self, count: int, rng: torch.Generator) -> Mixing | None:
        probability = self._protocol.cutmix
        if probability == 0.0 or torch.rand((), generator=rng) >= probability:
            return None
        return draw_cutmix(rng, batch_size=count, device=self._runtime.device)

    def _augmented(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """One operation of the policy, with parameters for each image."""
        transform = draw_from_policy(
            self._protocol.augmentation, rng, batch_size=len(images), device=self._runtime.device
        )
        return augment(images, transform)


def mixed_loss(logits: Tensor, own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy of images mixed by `cutmix`: each target weighs as much as its pixels.

    Args:
        logits: [B, C].
        own: int64 [B], or float32 [B, C] as probabilities, for which the gradient is that of the
            KL divergence from them.
        other: likewise.
        share: float32 [B], of `own`.
    """
    losses = [F.cross_entropy(logits, each, reduction="none") for each in (own, other)]
    return torch.lerp(losses[1], losses[0], share).mean()
