"""One classifier trained from scratch under a protocol, an epoch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gencond_fast.errors import RunError
from gencond_fast.models.classifier import Classifier
from gencond_fast.system.rng import named_rng
from gencond_fast.system.runtime import Runtime
from gencond_fast.training.average import WeightAverage, averaged
from gencond_fast.training.epochs import Epochs
from gencond_fast.training.mixed import LabelViews, mix
from gencond_fast.training.optimiser import build_optimizer, set_lr
from gencond_fast.training.protocol import Protocol


class Trainer:
    """Takes a network through epochs; all randomness is named by the epoch.

    Args:
        network: on the device of the runtime; trained in place.
        data: what it sees.
        protocol: optimiser, augmentation, mixing, averaging.
        epochs: of the whole training, on which the learning rate depends.
        seed: of augmentation and mixing, and of the order of images that are held.
        runtime: device, precision, compilation.
        label_views: labels what the network sees, in place of the targets.
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
        label_views: LabelViews | None = None,
    ) -> None:
        self._network = network
        self._data = data
        self._protocol = protocol
        self._epochs = epochs
        self._seed = seed
        self._runtime = runtime
        self._optimizer = build_optimizer(network.parameters(), protocol)
        decay, live = protocol.ema_decay, averaged(network.state_dict())
        self._average = None if decay is None else WeightAverage(live, decay)
        self._forward = runtime.compile(network.forward)
        self._label_views = label_views
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
            set_lr(
                self._optimizer,
                self._protocol,
                epoch,
                step,
                epochs=self._epochs,
                steps=self._data.steps,
            )
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
        mixed = mix(images, targets, self._protocol, rng).labelled(self._label_views)
        loss = mixed.loss(self._logits(mixed.images))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        self._loss = loss.detach()

    def _logits(self, images: Tensor) -> Tensor:
        batch = self._runtime.arrange(images)
        with self._runtime.autocast():
            logits = self._forward(batch)
        return logits.float()
