"""The closing check: is what a run made of its samples better than what they started as?"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gencond_fast.condensation.task import Task
from gencond_fast.config import Config
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, usual_convnet
from gencond_fast.store.store import StoredSet
from gencond_fast.system.rng import derive_seed
from gencond_fast.training.epochs import held
from gencond_fast.training.protocol import MODERN
from gencond_fast.training.train import accuracy
from gencond_fast.training.trainer import Trainer

SHARE = 0.1  # of the run's time, for both students and their tests
_WIDTH = 32
_STEPS = 100, 600  # at least, so that accuracy says something, and at most
_LEAST_SECONDS = 3.0  # less is not even tried
_MOST_BYTES = 2**30  # of the decoded images of one set
_TESTED = 2000  # images
_TIMED = 4  # steps that are enough to know their speed
_BATCH = 128


def is_checked(config: Config, steps: int) -> bool:
    """Whether a run of so many steps of matching and trajectories is checked, if time allows."""
    images = config.starts_as_images and not config.codes_images
    return config.training.check and images and steps > 0


def check_result(task: Task, start: StoredSet, result: StoredSet, seconds: float) -> str | None:
    """One short student learns from each set, under one seed; both accuracies in words.

    Both are tested on the same images: those held out, else random ones of the training split, on
    which the statistics of a run have looked, so that the result has a small advantage.

    Args:
        task: data, options, machine.
        start: the samples as they were before the first step.
        result: as they are in the file.
        seconds: that the run took so far; the check takes a tenth of it at most, or is left out.

    Returns:
        None where there is too little time, or the images do not fit into a gigabyte.
    """
    spec, room = result.spec, SHARE * seconds
    size = spec.samples * spec.channels * spec.image_size**2 * torch.float32.itemsize
    if room < _LEAST_SECONDS or size > _MOST_BYTES:
        return None
    began = time.perf_counter()
    # compiled steps are faster, but to compile each size of batch takes more than the check may
    task = replace(task, runtime=replace(task.runtime, compiled=False))
    sets = {"as they started": _images(task, start), "in the file": _images(task, result)}
    labels = result.labels(torch.arange(spec.samples, device=task.runtime.device))
    each = _seconds_of_a_step(task, sets["in the file"], labels)
    left = room - (time.perf_counter() - began)
    steps = min(int(0.8 * left / 2 / each), _STEPS[1])  # the rest for the tests
    if steps < _STEPS[0]:
        return None
    found = {name: _accuracy(task, images, labels, steps) for name, images in sets.items()}
    before, after = found.values()
    shares = " and ".join(f"{share:.1%} from the samples {name}" for name, share in found.items())
    tested = "held-out" if task.config.val_fraction is not None else "training"
    told = f"check: a student of {steps} steps learns {shares} ({tested} images)"
    if after <= before:
        told += (
            "; the steps made them no better: take fewer, with --steps 0 none, or leave the check "
            "out with --no-check"
        )
    return told


def _seconds_of_a_step(task: Task, images: Tensor, labels: Tensor) -> float:
    rows = torch.arange(len(labels), device=labels.device)[: _TIMED * _BATCH]
    trainer = _trainer(task, _network(task), images[rows], labels[rows], steps=1000)
    trainer.run_epoch(0)  # the first steps are slower
    _wait(task)
    before = time.perf_counter()
    steps = trainer.run_epoch(1)
    _wait(task)
    return (time.perf_counter() - before) / steps


def _wait(task: Task) -> None:
    """For the steps that a GPU has still to do."""
    if task.runtime.device.type == "cuda":
        torch.cuda.synchronize()


def _accuracy(task: Task, images: Tensor, labels: Tensor, steps: int) -> float:
    network = _network(task)
    trainer = _trainer(task, network, images, labels, steps)
    for epoch in range(math.ceil(steps / math.ceil(len(labels) / _BATCH))):
        trainer.run_epoch(epoch)
    trainer.finish()
    source = task.source
    if task.config.val_fraction is None:
        rng = np.random.default_rng(derive_seed(task.config.seed, "check"))
        count = len(source.train)
        rows = np.sort(rng.choice(count, min(count, _TESTED), replace=False))
        source = replace(source, val=source.train.subset(rows, lambda line: None))
    return accuracy(network, source, task.image_size, task.normalisation, task.runtime)


def _network(task: Task) -> Classifier:
    shape = (task.source.channels, task.num_classes, task.image_size)
    name, seed = usual_convnet(task.image_size), derive_seed(task.config.seed, "check")
    return task.runtime.place(build_classifier(name, *shape, seed=seed, width=_WIDTH))


def _trainer(
    task: Task, network: Classifier, images: Tensor, labels: Tensor, steps: int
) -> Trainer:
    protocol = replace(MODERN, batch_size=_BATCH)
    data = held(lambda epoch: images, labels, protocol)
    seed, epochs = derive_seed(task.config.seed, "check"), math.ceil(steps / data.steps)
    return Trainer(network, data, protocol=protocol, epochs=epochs, seed=seed, runtime=task.runtime)


@torch.no_grad()
def _images(task: Task, store: StoredSet) -> Tensor:
    """All samples, normalised: float32 [n, channels, S, S]."""
    index = torch.arange(store.spec.samples, device=task.runtime.device)
    parts = [task.normalisation(store(part).float()) for part in index.split(_BATCH)]
    return torch.cat(parts)
