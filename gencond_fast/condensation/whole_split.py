"""Networks trained on the whole training split, once for all runs that share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencond_fast.condensation.state import load_state, save_state
from gencond_fast.condensation.task import Task
from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.cache_policy import CachePolicy
from gencond_fast.data.source import Source
from gencond_fast.models.classifier import Classifier
from gencond_fast.system.cache import exclusive, load_tensors, save_tensors
from gencond_fast.training.epochs import Epochs, streamed
from gencond_fast.training.protocol import Protocol
from gencond_fast.training.trainer import Trainer

BATCH = 128


def made_once(
    task: Task, path: Path, kind: str, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors of a cache file; of several processes that want them one makes them.

    Args:
        task: whose reporter is told of waiting.
        path: of the file. A state of `train_on_all` beside it is removed once the file is there.
        kind: `teacher` or `expert`, for that message.
        make: called where the file is missing or damaged.

    Raises:
        OSError: the cache cannot be written.
    """
    found = load_tensors(path)
    if found is not None:
        return found
    waiting = f"another process trains the same {kind}: waiting for it"
    with exclusive(path, lambda: task.reporter.message(waiting)):
        found = load_tensors(path)  # another process may have made it meanwhile
        if found is None:
            found = make()
            save_tensors(path, found)
            _state_of(path).unlink(missing_ok=True)
    return found


def train_on_all(
    task: Task,
    network: Classifier,
    protocol: Protocol,
    *,
    path: Path,
    name: str,
    called: str,
    epochs: int,
    seed: int,
    parts: int = 0,
) -> list[Tensor]:
    """Trains a network in place, from where an interrupted call with the same path left off.

    Args:
        task: the data and the machine.
        network: on the device.
        protocol: how it is trained.
        path: what it is trained for; a state after each whole epoch lies beside it.
        name: in progress and messages.
        called: in the complaint that it diverged.
        epochs: passes over the training split.
        seed: of the order of images and of augmentations.
        parts: of an epoch, after each of which the weights are kept; 0 keeps none.

    Returns:
        What was kept: float32 [P] each, on the CPU, all parameters in one row.

    Raises:
        InputError: an image cannot be read.
        RunError: the network diverged.
        OSError: the cache cannot be written.
    """
    source = _with_image_cache(task, epochs)
    data = _all_images(task, source, protocol, seed)
    trainer = Trainer(
        network, data, protocol=protocol, epochs=epochs, seed=seed, runtime=task.runtime
    )
    done, kept = 0, []
    saved = load_state(_state_of(path))
    if saved is not None:
        trainer.load_state_dict(saved["trainer"])
        done, kept = saved["epochs"], saved["kept"]
        task.reporter.message(f"{name}: resuming at epoch {done}")
    ends = {data.steps * (part + 1) // parts - 1 for part in range(parts)}

    def keep(step: int) -> None:
        if step in ends:
            kept.append(weights_of(network))

    with task.reporter.phase(name, epochs, done) as progress:
        for epoch in range(done, epochs):
            trainer.run_epoch(epoch, keep)
            trainer.check(called)
            state = {"epochs": epoch + 1, "trainer": trainer.state_dict(), "kept": kept}
            save_state(_state_of(path), state)
            progress.advance(1)
    source.train.release_cache()
    return kept


def weights_of(network: Classifier) -> Tensor:
    """All parameters in one row: [P], on the CPU."""
    return torch.cat([each.detach().flatten() for each in network.parameters()]).cpu()


def _all_images(task: Task, source: Source, protocol: Protocol, seed: int) -> Epochs:
    return streamed(
        source,
        task.image_size,
        task.normalisation,
        protocol,
        seed=seed,
        device=task.runtime.device,
        tell=lambda done: None,
        waiting=DataTimer(),
    )


def _with_image_cache(task: Task, epochs: int) -> Source:
    """The data set, whose training images all epochs together decode once if they fit in memory."""
    source = task.source
    if epochs <= 1:
        return source
    policy = CachePolicy(task.config.in_memory, task.reporter.message)
    form, rows = Form(source.channels, task.image_size), np.arange(len(source.train))
    train = policy.keep(source.train, form, rows, "training images")
    return replace(source, train=train)


def _state_of(path: Path) -> Path:
    return path.with_suffix(".pt")
