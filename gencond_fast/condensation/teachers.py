"""Teachers: networks trained on the whole training split, kept for the runs that share them."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from gencond_fast.cache import cache_directory, cache_key, exclusive, load_tensors, save_tensors
from gencond_fast.condensation.labels import Teacher, pool_teachers
from gencond_fast.condensation.networks import FeatureNetworks, build_networks
from gencond_fast.condensation.state import load_state, save_state
from gencond_fast.condensation.task import (
    Setting,
    Task,
    choose_image_size,
    open_config,
    open_task,
    set_up,
)
from gencond_fast.config import Config
from gencond_fast.data.batch import Form
from gencond_fast.data.kept import Keeping
from gencond_fast.data.source import Source
from gencond_fast.data.waiting import Waiting
from gencond_fast.evaluation.epochs import streamed
from gencond_fast.evaluation.protocol import MODERN, Protocol
from gencond_fast.evaluation.train import accuracy
from gencond_fast.evaluation.trainer import Trainer
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, has_width, model_identity
from gencond_fast.progress import Reporter
from gencond_fast.rng import derive_seed

_BATCH = 128
_WAITING = "another process trains the same teacher: waiting for it"


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
    `labels.teachers=teachers`, finds them.

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
    """The teachers that `labels.teachers` names, as functions; errors as `train_teachers`.

    Args:
        task: all options.
        pool: the feature networks, where they are at hand.
    """
    if task.config.labels.teachers == "teachers":
        return [_teacher(task, network) for network in build_teachers(task)]
    return pool_teachers(pool or build_networks(task))


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
        batch_size=_BATCH,
        augmentation=config.networks.operations,
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
    path = _path(task, index)
    weights = load_tensors(path)
    if weights is None:
        with exclusive(path, lambda: task.reporter.message(_WAITING)):
            weights = load_tensors(path)  # another process may have made it meanwhile
            if weights is None:
                weights = _train(task, index, network, path)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _train(task: Task, index: int, network: Classifier, path: Path) -> dict[str, Tensor]:
    """Trains epoch by epoch, with the state in a file beside the cache entry."""
    epochs, state_file = task.config.teachers.epochs, path.with_suffix(".pt")
    name = f"teacher {index + 1} of {task.config.teachers.count}"
    trainer = _trainer(task, index, network)
    saved = load_state(state_file)
    done = 0
    if saved is not None:
        trainer.load_state_dict(saved["trainer"])
        done = saved["epochs"]
        task.reporter.message(f"{name}: resuming at epoch {done}")
    _keep_images(task)
    with task.reporter.task(f"{name}, epochs", epochs, done) as progress:
        for epoch in range(done, epochs):
            trainer.run_epoch(epoch)
            trainer.check("a teacher")
            save_state(state_file, {"epochs": epoch + 1, "trainer": trainer.state_dict()})
            progress.advance(1)
    task.source.train.kept = None
    save_tensors(path, network.state_dict())
    state_file.unlink(missing_ok=True)
    return network.state_dict()


def _trainer(task: Task, index: int, network: Classifier) -> Trainer:
    protocol, seed = _protocol(task.config), derive_seed(task.config.seed, "teacher", index)
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
    epochs = task.config.teachers.epochs
    return Trainer(network, data, protocol=protocol, epochs=epochs, seed=seed, runtime=task.runtime)


def _keep_images(task: Task) -> None:
    """Lets the images of the epochs be decoded once, if they fit into memory."""
    train = task.source.train
    keeping = Keeping(task.config.in_memory, task.reporter.message)
    form = Form(task.source.channels, task.image_size)
    if task.config.teachers.epochs > 1:
        keeping.keep(train, form, np.arange(len(train)), "training images")
