"""What an evaluation costs here: a few steps of every kind of student, and a few test images."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from gencond_fast.config import Config, EvaluateConfig, PlanConfig
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.cache_policy import CachePolicy
from gencond_fast.data.source import Source
from gencond_fast.evaluation.student_runner import StudentRunner, with_image_cache
from gencond_fast.evaluation.training_sets import TrainingSet
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, choose_models
from gencond_fast.planning.condensing import RUN, open_planned
from gencond_fast.planning.isolated import keep_to
from gencond_fast.planning.miniature import budget_of
from gencond_fast.planning.watch import Watch
from gencond_fast.store.artifact import load
from gencond_fast.system.runtime import Runtime, choose_runtime
from gencond_fast.training.epochs import Epochs, held
from gencond_fast.training.protocol import PROTOCOLS, Protocol
from gencond_fast.training.train import TEST_BATCH, accuracy
from gencond_fast.training.trainer import Trainer

_STEPS = 6  # of whole batches in a pass that is timed
_LEAST_STEPS, _LONG = 24, 5.0  # steps and seconds after which timing ends
_TESTED = 3  # whole batches of test images, and the last one, which takes memory of its own
_EPOCHS = 1000  # of a training of which a few are done


@dataclass(frozen=True)
class Lesson:
    """Students of one architecture on one training set.

    Attributes:
        name: of the set.
        model: architecture.
        drawing: seconds to have its images for a student.
        epoch: seconds of a pass.
        step: seconds of a whole batch in it.
        first: seconds that the first student takes more, for compilation.
        later: seconds that each later one takes more.
        testing: seconds for each test image, decoded.
    """

    name: str
    model: str
    drawing: float
    epoch: float
    step: float
    first: float
    later: float
    testing: float


@dataclass(frozen=True)
class Evaluating:
    """What was measured.

    Attributes:
        start: seconds until the first student.
        lessons: of each set and architecture.
        images: tested on.
        test_kept: test images that are held while there are students; 0 where each decodes them.
        whole_kept: likewise training images, for `full`.
        tested: images tested on in the calibration.
        peak: bytes of memory that the process took at most.
        device_peak: bytes of the GPU, 0 without one.
    """

    start: float
    lessons: tuple[Lesson, ...]
    images: int
    test_kept: int
    whole_kept: int
    tested: int
    peak: int
    device_peak: int


def calibrate_evaluation(
    config: Config,
    evaluation: EvaluateConfig,
    plan: PlanConfig,
    folder: Path,
    began: float,
) -> Evaluating | None:
    """Trains on the file of the miniature, and tests; for a process of its own.

    Args:
        config: of the condensation that is planned.
        evaluation: what is planned of the evaluation; its file and its data are not looked at.
        plan: what else is.
        folder: as `calibrate_condensing` has left it.
        began: when the process was started, by `time.monotonic`.

    Returns:
        None where the data have nothing to test on.

    Raises:
        InputError: the data or an option cannot be used.
        RunError: a student diverged.
    """
    watch = Watch()
    source = open_planned(config, plan, watch)
    keep_to(folder)
    if source.val is None or not len(source.val):
        return None
    artifact = load(folder / RUN)
    spec = artifact.metadata.store
    budget = budget_of(config, source, spec.image_size, spec.num_classes)
    artifact = replace(artifact, metadata=replace(artifact.metadata, budget=budget))
    evaluation = replace(
        evaluation, models=choose_models(evaluation.models, spec.image_size), run=str(folder / RUN)
    )
    protocol = PROTOCOLS[evaluation.protocol]
    if protocol.soft:
        artifact.require_soft_labels("a file of these options")
    runtime = choose_runtime(
        evaluation.device, evaluation.precision, evaluation.compile, spec.image_size
    )
    test_kept, whole_kept = _kept(evaluation, source, spec.image_size)
    part = _few(source, spec.num_classes)
    baselines = tuple(name for name in evaluation.baselines if name == "random")
    small = replace(evaluation, in_memory="on", seeds=2, baselines=baselines)
    part = with_image_cache(small, artifact, part, watch.message)
    bench = StudentRunner(small, artifact, part, runtime, protocol)
    school = _School(bench, part, spec.image_size, protocol, runtime)
    start = time.monotonic() - began
    sets = [bench.sets.condensed()]
    if "random" in evaluation.baselines:
        sets.append(bench.sets.random())
    taught = [school.teach(each, model) for each in sets for model in evaluation.models]
    timeline = watch.timeline(began, began, began)
    assert part.val is not None
    return Evaluating(
        start=start,
        lessons=tuple(taught),
        images=len(source.val),
        test_kept=test_kept,
        whole_kept=whole_kept,
        tested=len(part.val),
        peak=timeline.peak,
        device_peak=timeline.device_peak,
    )


def _kept(config: EvaluateConfig, source: Source, image_size: int) -> tuple[int, int]:
    """How many test and training images an evaluation keeps, as `with_image_cache` does."""
    assert source.val is not None
    form = Form(source.channels, image_size)
    keeping = CachePolicy(config.in_memory, lambda line: None)
    students = len(config.models) * (1 + len(config.baselines)) * config.seeds
    wanted = (
        (source.val, students > 1, "validation images"),
        (source.train, "full" in config.baselines, "training images"),
    )
    numbers = []
    for split, asked, what in wanted:
        if asked:
            split = keeping.keep(split, form, np.arange(len(split)), what)
        numbers.append(len(split.cache or ()))
    return numbers[0], numbers[1]


def _few(source: Source, classes: int) -> Source:
    """The first classes of a data set, with a few test images from all over them."""
    assert source.val is not None
    rows = np.flatnonzero(source.val.labels < classes)
    rest = min(len(source.val) % TEST_BATCH, len(rows))
    whole = min((len(rows) - rest) // TEST_BATCH, _TESTED)
    places = np.linspace(0, len(rows) - 1, whole * TEST_BATCH + rest)
    val = source.val.subset(rows[places.astype(np.int64)], lambda line: None)
    of_them = np.flatnonzero(source.train.labels < classes)
    train = source.train.subset(of_them, lambda line: None)
    names, titles = source.class_names[:classes], source.titles[:classes]
    return replace(source, train=train, val=val, class_names=names, titles=titles)


@dataclass(frozen=True)
class _School:
    """What all students of a calibration share."""

    bench: StudentRunner
    source: Source
    image_size: int
    protocol: Protocol
    runtime: Runtime

    def teach(self, training_set: TrainingSet, model: str) -> Lesson:
        """Some steps of two students, and two tests of the first one."""
        start = time.perf_counter()
        data = training_set.draw(0)
        drawing = time.perf_counter() - start
        some = _some_batches(data, self.protocol)
        networks = [self._student(model, seed) for seed in range(2)]
        first, later = (self._trainer(each, some) for each in networks)
        compiled = _steps(first, 0)
        passes = [_steps(first, 1)]
        while sum(map(sum, passes)) < _LONG and some.steps * len(passes) < _LEAST_STEPS:
            passes.append(_steps(first, 1 + len(passes)))
        whole = [each for steps in passes for each in (steps[:-1] or steps)]
        step = sum(whole) / len(whole)
        last = sum(steps[-1] for steps in passes) / len(passes)
        usual = (some.steps - 1) * step + last
        return Lesson(
            name=training_set.name,
            model=model,
            drawing=drawing,
            epoch=(data.steps - 1) * step + last,
            step=step,
            first=max(0.0, sum(compiled) - usual),
            later=max(0.0, sum(_steps(later, 0)) - usual),
            testing=self._test(networks[0]),
        )

    def _student(self, model: str, seed: int) -> Classifier:
        classes = len(self.source.class_names)
        shape = (self.source.channels, classes, self.image_size)
        return self.runtime.place(build_classifier(model, *shape, seed=seed))

    def _trainer(self, student: Classifier, data: Epochs) -> Trainer:
        protocol, runtime = self.protocol, self.runtime
        return Trainer(student, data, protocol=protocol, epochs=_EPOCHS, seed=0, runtime=runtime)

    def _test(self, student: Classifier) -> float:
        """Seconds for each test image, of the second pass: the first one decodes."""
        assert self.source.val is not None
        normalisation = self.bench.sets.normalisation
        for _ in range(2):
            start = time.perf_counter()
            accuracy(student, self.source, self.image_size, normalisation, self.runtime)
            seconds = time.perf_counter() - start
        return seconds / len(self.source.val)


def _some_batches(data: Epochs, protocol: Protocol) -> Epochs:
    """The first batches of an epoch and its last one, which may be smaller, as a set of its own."""
    rng = torch.Generator().manual_seed(0)
    chosen = [
        batch
        for number, batch in enumerate(data.batches(0, rng))
        if number < _STEPS or number == data.steps - 1
    ]
    images, targets = (torch.cat(each) for each in zip(*chosen, strict=True))
    return held(lambda epoch: images, targets, protocol)


def _steps(trainer: Trainer, epoch: int) -> list[float]:
    """Seconds of each step of an epoch."""
    marks = [time.perf_counter()]

    def mark(step: int) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    trainer.run_epoch(epoch, mark)
    return [after - before for before, after in pairwise(marks)]
