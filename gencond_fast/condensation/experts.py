"""Experts: what the weights of networks were on their way through the whole training split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencond_fast.cache import cache_directory, cache_key, exclusive, load_tensors, save_tensors
from gencond_fast.condensation.task import Setting, Task
from gencond_fast.config import Config
from gencond_fast.data.batch import Form
from gencond_fast.data.kept import Keeping
from gencond_fast.data.waiting import Waiting
from gencond_fast.evaluation.epochs import streamed
from gencond_fast.evaluation.protocol import Protocol
from gencond_fast.evaluation.trainer import Trainer
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier
from gencond_fast.rng import derive_seed

EXPERT_BATCH = 128
_NAME = "weights"
_WAITING = "another process trains the same experts: waiting for it"


def build_experts(task: Task) -> list[Tensor]:
    """The trajectories of a run, trained or taken from the cache.

    Returns:
        For each expert float32 [1 + epochs * parts, P] on the device: all its P parameters in one
        row, at first and after each part of an epoch.

    Raises:
        InputError: an image cannot be read.
        RunError: an expert diverged.
        OSError: the cache cannot be written.
    """
    options = task.config.trajectory
    with task.reporter.task("experts, epochs", options.experts * options.epochs) as progress:
        return [
            _cached(task, index, progress.advance).to(task.runtime.device)
            for index in range(options.experts)
        ]


def expert_network(task: Setting, index: int) -> Classifier:
    """The network of an expert with its first weights, on the device."""
    options = task.config.networks
    network = build_classifier(
        options.model,
        task.source.channels,
        task.num_classes,
        task.image_size,
        seed=derive_seed(task.config.seed, "expert", index),
        width=options.width if options.model.startswith("convnet") else None,
    )
    return task.runtime.place(network)


def _protocol(config: Config) -> Protocol:
    """SGD without momentum, so that a step depends on the weights before it alone."""
    return Protocol(
        name="expert",
        batch_size=EXPERT_BATCH,
        rate=config.trajectory.inner_rate,
        momentum=0.0,
        schedule="constant",
        augmentation=config.networks.operations,
    )


def _path(task: Setting, index: int) -> Path:
    options = task.config.trajectory
    key = cache_key(
        kind="expert",
        data=task.identity,
        model=task.config.networks.model,
        epochs=options.epochs,
        parts=options.parts,
        index=index,
        protocol=asdict(_protocol(task.config)),
        layout=[tuple(p.shape) for p in expert_network(task, index).parameters()],
    )
    return cache_directory("experts") / f"{key}.safetensors"


def _cached(task: Task, index: int, advance: Callable[[int], None]) -> Tensor:
    path = _path(task, index)
    found = load_tensors(path)
    if found is not None:
        advance(task.config.trajectory.epochs)
        return found[_NAME]
    with exclusive(path, lambda: task.reporter.message(_WAITING)):
        found = load_tensors(path)  # another process may have made it meanwhile
        if found is None:
            found = {_NAME: _trajectory(task, index, advance)}
            save_tensors(path, found)
    return found[_NAME]


def _trajectory(task: Task, index: int, advance: Callable[[int], None]) -> Tensor:
    options, train = task.config.trajectory, task.source.train
    network = expert_network(task, index)
    seed = derive_seed(task.config.seed, "expert", index)
    protocol = _protocol(task.config)
    keeping = Keeping(task.config.in_memory, task.reporter.message)
    keeping.keep(
        train, Form(task.source.channels, task.image_size), np.arange(len(train)), "training images"
    )
    data = streamed(
        task.source,
        task.image_size,
        task.normalisation,
        protocol,
        seed=seed,
        device=task.runtime.device,
        tell=lambda done: None,
        waiting=Waiting(),
    )
    trainer = Trainer(
        network,
        data,
        protocol=protocol,
        epochs=options.epochs,
        seed=seed,
        runtime=task.runtime,
    )
    ends = {data.steps * (part + 1) // options.parts - 1 for part in range(options.parts)}
    kept = [_weights(network)]

    def keep(step: int) -> None:
        if step in ends:
            kept.append(_weights(network))

    for epoch in range(options.epochs):
        trainer.run_epoch(epoch, keep)
        trainer.check("an expert")
        advance(1)
    train.kept = None
    return torch.stack(kept)


def _weights(network: Classifier) -> Tensor:
    return torch.cat([each.detach().cpu().flatten() for each in network.parameters()])
