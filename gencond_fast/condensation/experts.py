"""Experts: what the weights of networks were on their way through the whole training split."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gencond_fast.condensation.task import Setting, Task
from gencond_fast.condensation.whole_split import BATCH, made_once, train_on_all, weights_of
from gencond_fast.config import Config
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import model_identity
from gencond_fast.system.cache import cache_directory, cache_key
from gencond_fast.system.rng import derive_seed
from gencond_fast.training.protocol import Protocol

_NAME = "weights"


def build_experts(task: Task, ranks: Ranks | None = None) -> list[Tensor]:
    """The trajectories of a run, trained or taken from the cache.

    An interrupted training goes on after its last whole epoch. Several ranks, all of which call
    this, partition the experts out.

    Returns:
        For each expert float32 [1 + epochs * parts, P] on the device: all its P parameters in one
        row, at first and after each part of an epoch.

    Raises:
        InputError: an image cannot be read.
        RunError: an expert diverged.
        OSError: the cache cannot be written.
    """
    device, count = task.runtime.device, task.config.trajectory.experts
    ranks = ranks or Ranks()
    for index in range(ranks.rank, count, ranks.world_size):
        _cached(task, index)
    ranks.barrier()
    return [_cached(task, index).to(device) for index in range(count)]


def expert_network(task: Setting, index: int) -> Classifier:
    """The network of an expert with its first weights, on the device."""
    return task.runtime.place(task.classifier(task.config.networks.model, "expert", index))


def _protocol(config: Config) -> Protocol:
    """SGD without momentum, so that a step depends on the weights before it alone."""
    return Protocol(
        name="expert",
        batch_size=BATCH,
        lr=config.trajectory.inner_lr,
        momentum=0.0,
        schedule="constant",
        augmentation=config.networks.augmentation,
    )


def _path(task: Setting, index: int) -> Path:
    options = task.config.trajectory
    key = cache_key(
        kind="expert",
        data=task.identity,
        model=model_identity(task.config.networks.model),
        epochs=options.epochs,
        parts=options.parts_of(len(task.source.train)),
        index=index,
        protocol=_protocol(task.config).cache_parts(),
        layout=[tuple(p.shape) for p in expert_network(task, index).parameters()],
    )
    return cache_directory("experts") / f"{key}.safetensors"


def _cached(task: Task, index: int) -> Tensor:
    path, options = _path(task, index), task.config.trajectory

    def train() -> dict[str, Tensor]:
        network = expert_network(task, index)
        first = weights_of(network)
        later = train_on_all(
            task,
            network,
            _protocol(task.config),
            path=path,
            name=f"expert {index + 1} of {options.experts}",
            called="an expert",
            epochs=options.epochs,
            seed=derive_seed(task.config.seed, "expert", index),
            parts=options.parts_of(len(task.source.train)),
        )
        return {_NAME: torch.stack([first, *later])}

    return made_once(task, path, "expert", train)[_NAME]
