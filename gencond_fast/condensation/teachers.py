"""Teachers: networks trained on the whole training split, kept for the runs that share them."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from gencond_fast.condensation.labels import Teacher, pool_teachers
from gencond_fast.condensation.networks import FeatureNetworks, build_networks
from gencond_fast.condensation.task import (
    Setting,
    Task,
    choose_image_size,
    open_config,
    open_task,
    set_up,
)
from gencond_fast.condensation.whole_split import BATCH, made_once, train_on_all
from gencond_fast.config import Config
from gencond_fast.data.source import Source
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, has_width, model_identity
from gencond_fast.system.cache import cache_directory, cache_key
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import derive_seed
from gencond_fast.training.protocol import MODERN, Protocol
from gencond_fast.training.train import accuracy


@dataclass(frozen=True)
class Teachers:
    """Networks of the cache, and what they took.

    Attributes:
        model: architecture.
        epochs: passes over the training images.
        images: in a pass, undecodable ones included.
        accuracies: as fractions, on the part of the training data that was set apart
            (`val_fraction`); None where none was.
        seconds: that the call took.
        files: their weights.
    """

    model: str
    epochs: int
    images: int
    accuracies: tuple[float, ...] | None
    seconds: float
    files: tuple[Path, ...]


def train_teachers(config: Config, reporter: Reporter | None = None) -> Teachers:
    """Trains the teachers of a config, or finds them in the cache.

    Called again after an interruption it goes on after the last whole epoch. A `condense` or
    `relabel` with the same data, image size, seed, precision and `teachers` options, and with
    `labels.source=full_data`, finds them.

    Args:
        config: all options; `out`, the budget, losses and training do not matter.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the data or an option cannot be used.
        RunError: a teacher diverged.
        OSError: the cache cannot be written.
    """
    start = time.monotonic()
    reporter = reporter or Reporter()
    source = open_config(config, reporter)
    image_size = choose_image_size(config, source)
    check_teachers(config, source, image_size)
    task = open_task(set_up(config, source, image_size, reporter))
    networks = build_teachers(task)
    seconds = time.monotonic() - start
    accuracies = None
    if config.val_fraction is not None:  # else the validation split is the test
        accuracies = tuple(
            accuracy(network, source, image_size, task.normalisation, task.runtime)
            for network in networks
        )
    source.tell_left_out(reporter.message)
    options = config.teachers
    files = tuple(_path(task, index) for index in range(options.count))
    return Teachers(options.model, options.epochs, len(source.train), accuracies, seconds, files)


def check_teachers(config: Config, source: Source, image_size: int) -> None:
    """Raise InputError unless the network of the teachers exists."""
    _network(config, source, image_size, 0)


def choose_teachers(task: Task, pool: FeatureNetworks | None = None) -> list[Teacher]:
    """The teachers that `labels.source` names, as functions; errors as `train_teachers`.

    Args:
        task: all options.
        pool: the feature networks, where they are at hand.
    """
    if task.config.labels.source == "full_data":
        return [_teacher(task, network) for network in build_teachers(task)]
    if task.config.labels.epsilon:
        return pool_teachers(build_networks(_hardened(task), "label networks"))
    return pool_teachers(pool or build_networks(task))


def _hardened(task: Task) -> Task:
    """The task with feature networks trained against attacks as `labels.epsilon` says."""
    epsilon = task.config.labels.epsilon
    networks = replace(task.config.networks, epsilon=epsilon, interpolated=0)
    return replace(task, config=replace(task.config, networks=networks))


def build_teachers(task: Task) -> list[Classifier]:
    """The networks themselves, on the device, for inference; errors as `train_teachers`."""
    return [_cached(task, index) for index in range(task.config.teachers.count)]


def _teacher(task: Task, network: Classifier) -> Teacher:
    runtime = task.runtime
    forward = runtime.compile(network.forward)

    def logits(images: Tensor) -> Tensor:
        with runtime.autocast():
            return forward(runtime.arrange(images)).float()

    return logits


def _protocol(config: Config) -> Protocol:
    """AdamW and a cosine on the augmentations of the feature networks."""
    return replace(
        MODERN,
        name="teacher",
        batch_size=BATCH,
        augmentation=config.networks.augmentation,
        cutmix=0.0,
        average=None,
    )


def _network(config: Config, source: Source, image_size: int, index: int) -> Classifier:
    options = config.teachers
    return build_classifier(
        options.model,
        source.channels,
        len(source.class_names),
        image_size,
        seed=derive_seed(config.seed, "teacher", index),
        width=options.width if has_width(options.model) else None,
    )


def _path(task: Setting, index: int) -> Path:
    options = task.config.teachers
    network = _network(task.config, task.source, task.image_size, index)
    key = cache_key(
        kind="teacher",
        data=task.identity,
        model=model_identity(options.model),
        epochs=options.epochs,
        index=index,
        protocol=asdict(_protocol(task.config)),
        layout=[tuple(p.shape) for p in network.parameters()],
    )
    return cache_directory("teachers") / f"{key}.safetensors"


def _cached(task: Task, index: int) -> Classifier:
    network = task.runtime.place(_network(task.config, task.source, task.image_size, index))
    path, options = _path(task, index), task.config.teachers

    def train() -> dict[str, Tensor]:
        train_on_all(
            task,
            network,
            _protocol(task.config),
            path=path,
            name=f"teacher {index + 1} of {options.count}",
            called="a teacher",
            epochs=options.epochs,
            seed=derive_seed(task.config.seed, "teacher", index),
        )
        return network.state_dict()

    network.load_state_dict(made_once(task, path, "teacher", train))
    return network.eval().requires_grad_(False)
