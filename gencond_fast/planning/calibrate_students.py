"""A short real evaluation, timed on this machine."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.evaluation.student_runner import StudentRunner, with_image_cache
from gencond_fast.evaluation.training_sets import TrainingSet
from gencond_fast.models.registry import choose_models
from gencond_fast.planning.recording import Steps
from gencond_fast.planning.short_run import (
    RUN,
    cache_in,
    device_memory,
    open_planned,
    planned_bytes,
)
from gencond_fast.store.artifact import load
from gencond_fast.system.memory import peak_memory
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training.epochs import Epochs
from gencond_fast.training.protocol import PROTOCOLS
from gencond_fast.training.train import TEST_BATCH, accuracy

EPOCHS = 3  # of students
_BATCHES = 2  # of an epoch: at 64 pixels more would take minutes on a few cores
_TESTED = 1  # whole batches of test images


@dataclass(frozen=True)
class Students:
    """Students of one architecture on one training set.

    Attributes:
        name: of the set.
        first: seconds of the first epoch, with images and compilation.
        epoch: seconds of a later one.
        steps: of an epoch.
        testing: seconds of a test on all test images, decoded.
    """

    name: str
    first: float
    epoch: float
    steps: int
    testing: float


@dataclass(frozen=True)
class Evaluation:
    """What a short evaluation took.

    Attributes:
        start: seconds until the first student.
        students: of each training set and architecture.
        decoded: test images that have to be decoded.
        kept: whether that is done once for all students.
        memory: bytes of the process at most.
        device_memory: bytes of the GPU at most, 0 without one.
    """

    start: float
    students: tuple[Students, ...]
    decoded: int
    kept: bool
    memory: int
    device_memory: int


def calibrate_evaluation(
    folder: Path,
    config: Config,
    evaluation: EvaluateConfig,
    absent: tuple[int, int] | None,
    began: float,
) -> Evaluation | None:
    """Trains students on the short condensation's file, and tests; for a process of its own.

    Args:
        folder: as `calibrate_condensation` has left it.
        config: of the planned condensation.
        evaluation: what is planned; its `run` and its `data` are not looked at.
        absent: images and classes of data that are not at hand.
        began: when the process was started, by `time.monotonic`.

    Returns:
        None where the data have nothing to test on.

    Raises:
        InputError: the data or an option cannot be used.
    """
    source = open_planned(config, absent)
    cache_in(folder)
    if source.val is None or not len(source.val):
        return None
    made = load(folder / RUN)
    spec = made.metadata.store
    # random baselines have as many images as the budget that is planned allows
    made = replace(made, metadata=replace(made.metadata, budget=planned_bytes(config, spec)))
    if PROTOCOLS[evaluation.protocol].soft:
        made.require_soft_labels("a file of these options")
    size, images = spec.image_size, len(source.val)
    runtime = choose_runtime(evaluation.device, evaluation.precision, evaluation.compile, size)
    tested = min(images // TEST_BATCH, _TESTED) * TEST_BATCH + images % TEST_BATCH
    rows = np.linspace(0, images - 1, tested).astype(np.int64)
    part = replace(source, val=source.val.subset(rows, lambda line: None))
    small = replace(
        evaluation,
        models=choose_models(evaluation.models, size),
        baselines=tuple(name for name in evaluation.baselines if name == "random"),
        in_memory="on",
        epochs=EPOCHS,
        seeds=2,  # so that test images are kept
    )
    part = with_image_cache(small, made, part, lambda line: None)
    runner = StudentRunner(small, made, part, runtime, PROTOCOLS[evaluation.protocol])
    start = time.monotonic() - began
    batch = PROTOCOLS[evaluation.protocol].batch_size
    found = []
    for each in (runner.sets.condensed(), *([runner.sets.random()] if small.baselines else [])):
        for model in small.models:
            steps = Steps(time.monotonic())
            (student,), _ = runner.students(_few_batches(each), model, [0], EPOCHS, steps)
            for _ in range(2):  # the first time decodes the images
                before = time.perf_counter()
                accuracy(student, part, size, runner.sets.normalisation, runtime)
                testing = (time.perf_counter() - before) * images / tested
            first, *later = (seconds for _, seconds in steps.found)
            found.append(_whole_epochs(each, first, statistics.fmean(later), testing, batch))
    encoded, kept = source.val.shape is None, evaluation.in_memory != "off"
    held = images * spec.channels * size**2 if encoded and kept else 0
    return Evaluation(
        start,
        tuple(found),
        images if encoded else 0,
        kept,
        memory=peak_memory() + held,
        device_memory=device_memory(),
    )


def _few_batches(training_set: TrainingSet) -> TrainingSet:
    """The same, but only the first batches of each epoch are learned."""

    def draw(seed: int) -> Epochs:
        whole = training_set.draw(seed)
        return replace(
            whole,
            steps=min(whole.steps, _BATCHES),
            batches=lambda number, rng: itertools.islice(whole.batches(number, rng), _BATCHES),
        )

    return replace(training_set, draw=draw)


def _whole_epochs(
    training_set: TrainingSet, first: float, later: float, testing: float, batch: int
) -> Students:
    """What was measured of the first batches, for epochs of all images of a training set."""
    images = int(training_set.class_sizes.sum())
    whole = later * images / min(images, _BATCHES * batch)
    steps = math.ceil(images / batch)
    return Students(training_set.name, first + whole - later, whole, steps, testing)
