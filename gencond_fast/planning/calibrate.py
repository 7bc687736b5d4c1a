"""A short real condensation and a short real evaluation, timed on this machine."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gencond_fast.condensation.run import condense, sized_metadata
from gencond_fast.condensation.task import Setting, choose_image_size, open_config, set_up
from gencond_fast.condensation.teachers import check_teachers
from gencond_fast.condensation.validate import check_choices
from gencond_fast.condensation.whole_split import BATCH
from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.discrepancy import required
from gencond_fast.evaluation.student_runner import StudentRunner, with_image_cache
from gencond_fast.evaluation.training_sets import TrainingSet
from gencond_fast.models.registry import choose_models
from gencond_fast.planning.count import count, stage_steps
from gencond_fast.planning.noise import noise_source
from gencond_fast.planning.recording import RecordingReporter, Span, Steps
from gencond_fast.store.artifact import file_size, load
from gencond_fast.store.budget import ipc_to_bytes
from gencond_fast.store.spec import StoreSpec
from gencond_fast.system.memory import peak_memory
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training.epochs import Epochs
from gencond_fast.training.protocol import PROTOCOLS
from gencond_fast.training.train import TEST_BATCH, accuracy

EPOCHS = 3  # of students
_BATCHES = 2  # of an epoch: at 64 pixels more would take minutes on a few cores
# steps; the price is updated every ten, that of coding every twenty
_STAGES = {"coding": 25, "warm": 13, "match": 21, "trajectory": 5}
_TRAIN_STEPS = 32
_IMAGES = 3 * 256 + 128  # whole batches of the statistics and a part of one
_SLACK = 4096  # bytes for a longer header
_READ = 256, 1280  # images
_STEPS = "matching"  # what a run calls its steps of all stages
_TESTED = 1  # whole batches of test images
_RUN = "run"


@dataclass(frozen=True)
class Unit:
    """What a run does many times: in which phase, seconds of each, times in short and in full."""

    phase: str
    name: str
    pace: float
    short: int
    full: int

    @property
    def more(self) -> float:
        """Seconds that the full run takes more than the short one."""
        return (self.full - self.short) * self.pace


@dataclass(frozen=True)
class Condensation:
    """What a short condensation took, and what the full one does more often.

    Attributes:
        size: bytes of the file to come.
        spec: of its stored set.
        steps: `training.steps` and `trajectory.steps`.
        images: of the training split.
        runtime: device, precision, compilation.
        seconds: of each phase of the short run.
        units: what makes the full run longer.
        reading: seconds to decode an image; 0 where images are not at hand.
        memory: bytes of the process at most, with what the full run holds beyond the short one.
        device_memory: bytes of the GPU at most, 0 without one.
    """

    size: int
    spec: StoreSpec
    steps: tuple[int, int]
    images: int
    runtime: str
    seconds: dict[str, float]
    units: tuple[Unit, ...]
    reading: float
    memory: int
    device_memory: int


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


def calibrate_condensation(
    folder: Path, config: Config, absent: tuple[int, int] | None, began: float
) -> Condensation:
    """Condenses with few steps and few images; for a process of its own.

    Args:
        folder: for everything that is written but the index of the data.
        config: of the planned condensation.
        absent: images and classes of data that are not at hand.
        began: when the process was started, by `time.monotonic`.

    Raises:
        InputError: the data or an option cannot be used.
        RunError: the optimisation diverged.
    """
    reporter = RecordingReporter()
    source = _open(config, absent)
    opened = time.monotonic()
    image_size = choose_image_size(config, source)
    check_choices(config, source, image_size)
    check_teachers(config, source, image_size)
    cache_in(folder)
    setting = set_up(config, source, image_size, reporter)
    blank = Normalisation((0.1234,) * source.channels, (0.1234,) * source.channels)
    metadata = sized_metadata(config, source, image_size, blank)
    short = _short(setting, metadata.store, str(folder / _RUN))
    reading = 0.0 if absent else _time_reading(source, image_size)
    full = count(setting, metadata.store)
    resumed = time.monotonic()
    condense(short.config, reporter, source=short.source)
    seconds = phases(reporter.spans, began - opened + resumed, time.monotonic())
    return Condensation(
        size=file_size(metadata),
        spec=metadata.store,
        steps=(setting.config.training.steps or 0, setting.config.trajectory.steps),
        images=len(source.train),
        runtime=setting.runtime.describe(),
        seconds=seconds,
        units=tuple(_units(reporter.spans, short, metadata.store.samples, full, reading)),
        reading=reading,
        memory=peak_memory() + full["held"],
        device_memory=_device_memory(),
    )


def phases(spans: list[Span], began: float, ended: float) -> dict[str, float]:
    """Seconds of the phases of a condensation; their sum is all of its time."""

    def total(*names: str) -> float:
        return sum(span.seconds for span in spans if span.name.startswith(names))

    start = min(span.start for span in spans)
    nothing = Span("", start, start, [])
    networks = next((span for span in spans if span.name == "feature networks"), nothing)
    steps = next(span for span in spans if span.name == _STEPS)
    experts, labels = total("expert "), total("teacher ", "label networks", "soft labels")
    return {
        "start": networks.start - began,
        "networks": networks.seconds,
        "bank": steps.start - networks.end - experts,
        "experts": experts,
        "condensing": steps.seconds,
        "labels": labels,
        "finish": ended - steps.end - labels,
    }


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
    source = _open(config, absent)
    cache_in(folder)
    if source.val is None or not len(source.val):
        return None
    made = load(folder / _RUN)
    spec = made.metadata.store
    # random baselines have as many images as the budget that is planned allows
    made = replace(made, metadata=replace(made.metadata, budget=_budget(config, spec)))
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
        device_memory=_device_memory(),
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


def cache_in(folder: Path) -> None:
    """Lets this process put what it would cache into a folder, compiled code included."""
    os.environ["GENCOND_FAST_CACHE"] = str(folder / "cache")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")


def pace(steps: list[tuple[int, float]]) -> float:
    """Seconds of a unit, but for the first step and for others that seem to compile."""
    paces = [seconds / units for units, seconds in steps[1:] or steps]
    usual = 3 * statistics.median(paces)
    return statistics.fmean(each for each in paces if each <= usual)


def _units(
    spans: list[Span], short: Setting, samples: int, full: dict[str, int], reading: float
) -> list[Unit]:
    """What the full run does more often than these spans of the short one."""
    images = len(short.source.train)
    found = [
        Unit("start", "sample", reading, min(images, full["sample"]), full["sample"]),
        Unit("bank", "decoded", reading, 0, full["decoded"]),
    ]
    names = {
        "feature networks": ("networks", "networks"),
        "real statistics": ("bank", "bank"),
        "release": ("bank", "bank"),
        "label networks": ("labels", "networks"),
        "soft labels": ("labels", "labels"),
    }
    for span in spans:
        if span.name in names and span.steps:
            phase, name = names[span.name]
            done = sum(units for units, _ in span.steps)
            found.append(Unit(phase, name, pace(span.steps), done, full[name]))
    for phase, name, kind in (
        ("experts", "experts", "expert "),
        ("labels", "teachers", "teacher "),
    ):
        epochs = [seconds for s in spans if s.name.startswith(kind) for _, seconds in s.steps]
        if epochs:  # the first one of each network decodes and compiles
            each = min(epochs) / images
            found.append(Unit(phase, name, each, images * len(epochs), full[name]))
    (span,) = (span for span in spans if span.name == _STEPS)
    begin, taken = 0, stage_steps(short.config, samples)
    for name, steps in zip(_STAGES, taken, strict=True):
        if steps:
            each = pace(span.steps[begin : begin + steps])
            found.append(Unit("condensing", name, each, steps, full[name]))
        begin += steps
    # the short run writes its last checkpoint behind its last step
    saving = max(0.0, span.seconds - sum(seconds for _, seconds in span.steps))
    return [*found, Unit("condensing", "checkpoints", saving, 1, full["checkpoints"])]


def _open(config: Config, absent: tuple[int, int] | None) -> Source:
    return noise_source(*absent, config) if absent else open_config(config, RecordingReporter())


def _device_memory() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0


def _budget(config: Config, spec: StoreSpec) -> int:
    shape = (spec.num_classes, spec.channels, spec.image_size)
    return config.bytes or ipc_to_bytes(config.ipc or 1, *shape)


def _short(setting: Setting, spec: StoreSpec, out: str) -> Setting:
    """The same stored samples, networks and batches with few steps and few real images."""
    config, source = setting.config, setting.source
    networks, options = config.networks, config.trajectory
    few = math.ceil(_IMAGES / spec.num_classes)
    needed = required(config.losses.discrepancies)
    draws = any(loss.needs_samples or loss.needs_images for loss in needed)
    each = few
    if draws or networks.real_batch or config.losses.adversarial:  # real images in every step
        each = max(few, networks.real_batch or networks.sample_batch)
    rows = np.flatnonzero(shuffled_rank(source.train.labels, config.seed) < each)
    wanted = zip(stage_steps(config, spec.samples), _STAGES.values(), strict=True)
    coding, warm, match, trajectory = (min(steps, most) for steps, most in wanted)
    # where all steps are of a warm start that is left out, as they are after a start from images
    steps = warm + match or min(1, config.training.steps or 0)
    parts = min(options.parts_of(len(source.train)), math.ceil(len(rows) / BATCH))
    # all sizes of the stored set, so that none is left to be chosen
    sizes: dict[str, dict[str, Any]] = {
        "dct": {"coefficients": spec.coefficients},
        "pixels": {"code_size": spec.code_size, "factor": None},
        "generator": {"width": spec.width, "coefficients": spec.coefficients},
    }
    small = replace(
        config,
        out=out,
        ipc=None,
        bytes=_budget(config, spec) + _SLACK,
        classes=None,
        val_fraction=None,
        image_size=spec.image_size,
        in_memory="on",
        store=replace(config.store, per_class=spec.per_class, **sizes[spec.format]),
        networks=replace(
            networks,
            train_steps=min(networks.train_steps, _TRAIN_STEPS),
            train_images=min(networks.train_images, each),
            # a private run measures all of its images
            real_per_class=None if config.privacy.on else few,
        ),
        training=replace(
            config.training,
            steps=steps,
            coding_steps=coding or None,
            warm_start=warm / steps if warm + match else config.training.warm_start,
            log_every=1,
            checkpoint_every=max(1, coding + steps + trajectory),
        ),
        trajectory=replace(
            options,
            steps=trajectory,
            experts=min(options.experts, 2),
            epochs=2,
            max_start_epoch=1,
            parts=parts,
            span=min(options.span, parts),
        ),
        teachers=replace(config.teachers, count=min(config.teachers.count, 2), epochs=2),
    )
    part = source.subset(rows, lambda line: None)
    return replace(setting, config=small, source=part)


def _time_reading(source: Source, image_size: int) -> float:
    """Seconds to decode one of the images from all over the split, but for the first few."""
    seconds = []
    for images in _READ:
        rows = np.linspace(0, len(source.train) - 1, min(images, len(source.train)))
        options = {"channels": source.channels, "image_size": image_size, "batch_size": _READ[0]}
        start = time.perf_counter()
        for _ in stream(source.train, indices=np.unique(rows.astype(np.int64)), **options):
            pass
        seconds.append(time.perf_counter() - start)
    return max(0.0, seconds[1] - seconds[0]) / (_READ[1] - _READ[0])
