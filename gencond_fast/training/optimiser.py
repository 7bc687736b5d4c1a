"""The optimiser of a student and its learning rate."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from gencond_fast.training.protocol import Protocol
from gencond_fast.training.schedule import warm_cosine


def build_optimizer(parameters: Iterable[Tensor], protocol: Protocol) -> Optimizer:
    """SGD or AdamW with the numbers of the protocol."""
    lr, decay = protocol.lr, protocol.weight_decay
    if protocol.optimizer == "adamw":
        return AdamW(parameters, lr=lr, weight_decay=decay)
    return SGD(parameters, lr=lr, momentum=protocol.momentum, weight_decay=decay)


def lr_at(protocol: Protocol, epoch: int, step: int, *, epochs: int, steps: int) -> float:
    """The learning rate of one step.

    Args:
        protocol: its schedule.
        epoch: 0 … epochs - 1.
        step: within the epoch, 0 … steps - 1.
        epochs: of the whole training.
        steps: of an epoch.
    """
    if protocol.schedule == "constant":
        return protocol.lr
    if protocol.schedule == "step":
        return protocol.lr / 10 if epoch > epochs // 2 else protocol.lr
    done = epoch * steps + step
    return warm_cosine(protocol.lr, done, epochs * steps, protocol.warm_up)


def set_lr(
    optimizer: Optimizer, protocol: Protocol, epoch: int, step: int, *, epochs: int, steps: int
) -> None:
    """Gives an optimiser the learning rate of one step, with arguments as `lr_at`."""
    lr = lr_at(protocol, epoch, step, epochs=epochs, steps=steps)
    for group in optimizer.param_groups:
        group["lr"] = lr
