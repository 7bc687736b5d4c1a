"""How long a run takes: a short one, and what the full one does more often."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gencond_fast.condensation.closing_check import SHARE, is_checked
from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.errors import InputError
from gencond_fast.evaluation.student_epochs import student_epochs
from gencond_fast.planning.calibrate import Condensation, calibrate_condensation
from gencond_fast.planning.calibrate_students import Evaluation, calibrate_evaluation
from gencond_fast.planning.recording import in_own_process
from gencond_fast.store.budget import bits_per_class
from gencond_fast.system.environment import describe
from gencond_fast.system.progress import Reporter
from gencond_fast.training.protocol import PROTOCOLS

_HEAP = 1.05  # the heap of a long run grows by holes that a short one does not have
_RESERVE = 0.95  # of the minutes that a run is fitted to
_CALIBRATING = "calibrating: a condensation of few steps and few images"


@dataclass(frozen=True)
class Plan:
    """What a condensation and its evaluation will take on this machine.

    Attributes:
        bytes: of the file, to within the digits of its header.
        bits_per_class: 8 * bytes / C.
        per_class: stored samples of a class.
        classes: C.
        images: of the training split.
        image_size: side in pixels.
        runtime: device, precision, compilation.
        seconds: of each phase; `evaluation` is the last one, where there is something to test on.
        memory: bytes at most of a process, by `condensing` and `evaluation`.
        device_memory: likewise of a GPU, 0 without one.
        notes: what the plan does not count, in sentences.
        calibration: seconds that the plan took.
        environment: versions and machine.
    """

    bytes: int
    bits_per_class: float
    per_class: int
    classes: int
    images: int
    image_size: int
    runtime: str
    seconds: dict[str, float]
    memory: dict[str, int]
    device_memory: dict[str, int]
    notes: tuple[str, ...]
    calibration: float
    environment: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def plan(
    config: Config,
    evaluation: EvaluateConfig | None = None,
    *,
    absent: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """Predicts bytes, memory and time from short runs on this machine.

    Nothing is kept but the index of the data. Networks, statistics and compiled code that earlier
    runs have left in the cache are not counted on: where there are any, a run is shorter.

    Args:
        config: of the condensation; `out` does not matter.
        evaluation: of the evaluation; `run` and `data` do not matter. None takes the defaults.
        absent: training images and classes of data that are not at hand, in place of `config.data`.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the data or an option cannot be used.
        RunError: a short run diverged, or its process died.
    """
    reporter = reporter or Reporter()
    evaluation = evaluation or EvaluateConfig(run="", data="")
    start = time.monotonic()
    with TemporaryDirectory(prefix="gencond-plan-") as name:
        reporter.message(_CALIBRATING)
        made = in_own_process(Path(name), calibrate_condensation, config, absent)
        total = sum(condensing_seconds(made).values())
        reporter.message(
            f"condensing takes about {total / 60:.1f} min, for a file of {made.size:,} bytes"
        )
        reporter.message("calibrating: a few steps of students")
        tested = in_own_process(Path(name), calibrate_evaluation, config, evaluation, absent)
    seconds, runs = condensing_seconds(made), {"condensing": made, "evaluation": tested}
    if is_checked(config, sum(made.steps)):
        seconds["closing check"] = SHARE * total
    if tested is not None:
        seconds["evaluation"] = evaluation_seconds(tested, evaluation, made)
    found = {name: run for name, run in runs.items() if run is not None}
    return Plan(
        bytes=made.size,
        bits_per_class=bits_per_class(made.size, made.spec.num_classes),
        per_class=made.spec.per_class,
        classes=made.spec.num_classes,
        images=made.images,
        image_size=made.spec.image_size,
        runtime=made.runtime,
        seconds=seconds,
        memory={name: round(_HEAP * run.memory) for name, run in found.items()},
        device_memory={name: run.device_memory for name, run in found.items()},
        notes=_notes(evaluation, absent is not None, tested is not None),
        calibration=time.monotonic() - start,
        environment=describe(),
    )


def fit_minutes(config: Config, minutes: float, reporter: Reporter | None = None) -> Config:
    """The config with `training.steps` and `trajectory.steps` scaled to fill so many minutes.

    Both are multiplied by the same number, above or below 1, and are at least 1 where they were;
    a config without steps stays as it is.
    The minutes include the calibration. The result depends on the speed of the machine, so an
    interrupted run can only go on with the steps that it was started with.

    Args:
        config: of the condensation; `out` does not matter.
        minutes: from this call to the finished file.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the data or an option cannot be used, or even the fewest steps take longer.
        RunError: the short run diverged, or its process died.
    """
    start = time.monotonic()
    (reporter or Reporter()).message(_CALIBRATING)
    with TemporaryDirectory(prefix="gencond-plan-") as name:
        made = in_own_process(Path(name), calibrate_condensation, config, None)
    return fitted(config, made, minutes, time.monotonic() - start)


def fitted(config: Config, made: Condensation, minutes: float, spent: float) -> Config:
    """As `fit_minutes`, from what a calibration of `spent` seconds measured."""
    scaled_units = ("warm", "match", "trajectory", "checkpoints")
    steps = sum(unit.full * unit.pace for unit in made.units if unit.name in scaled_units)
    if not any(made.steps):
        return config
    fixed = spent + sum(condensing_seconds(made).values()) - steps
    total = sum(made.steps)
    if is_checked(config, total):
        minutes /= 1 + SHARE
    scale = (_RESERVE * 60 * minutes - fixed) / steps
    if scale * total < 1:
        needed = (fixed + steps / total) / 60 / _RESERVE
        raise InputError(
            f"{minutes:g} minutes are too few: what comes before takes longer; give "
            f"{math.ceil(10 * needed) / 10:g} minutes or more, or fewer or smaller networks"
        )

    def scaled(number: int) -> int:
        return max(1, math.floor(number * scale)) if number else 0

    return replace(
        config,
        training=replace(config.training, steps=scaled(made.steps[0])),
        trajectory=replace(config.trajectory, steps=scaled(made.steps[1])),
    )


def condensing_seconds(made: Condensation) -> dict[str, float]:
    """Of each phase: those of the short run, and those of what the full one does more often."""
    return {
        phase: seconds + sum(unit.more for unit in made.units if unit.phase == phase)
        for phase, seconds in made.seconds.items()
    }


def evaluation_seconds(tested: Evaluation, config: EvaluateConfig, made: Condensation) -> float:
    """Seconds of an evaluation: of all students, their tests, and the decoding of images."""
    seconds, students, decoded = tested.start, 0, 0
    twice = 2 if config.without_augmentation else 1
    batch = PROTOCOLS[config.protocol].batch_size
    stored = next(each.steps for each in tested.students if each.name != "random")
    for each in tested.students:
        students += twice * config.seeds
        seconds += each.first - each.epoch  # compilation, which later students find done
        epochs = student_epochs(config, each.steps, stored)
        seconds += twice * config.seeds * (epochs * each.epoch + each.testing)
        if "full" in config.baselines and each.name != "random":
            steps = math.ceil(made.images / batch)
            epochs = student_epochs(config, steps, stored)
            students += config.seeds
            seconds += config.seeds * (epochs * steps * each.epoch / each.steps + each.testing)
            decoded += config.seeds * epochs * made.images if tested.decoded else 0
    decoded += tested.decoded * (1 if tested.kept else students)
    return seconds + decoded * made.reading


def _notes(evaluation: EvaluateConfig, absent: bool, tested: bool) -> tuple[str, ...]:
    """What is not counted."""
    left_out = {
        "attacks": evaluation.attack.names,
        "students of the baselines jpeg and avif": {"jpeg", "avif"} & {*evaluation.baselines},
        "what --parallel-students saves": evaluation.parallel_students > 1,
        "the time to read and decode images, which are not at hand": absent,
        "an evaluation; the data have no validation split to test on": not tested,
    }
    return tuple(f"not counted: {name}" for name, asked in left_out.items() if asked)
