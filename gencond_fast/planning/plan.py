"""A plan: calibrated in processes of their own, then reckoned for every number of devices."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gencond_fast.config import Config, EvaluateConfig, PlanConfig
from gencond_fast.errors import InputError
from gencond_fast.planning.condensing import Condensing, calibrate_condensing
from gencond_fast.planning.evaluating import Evaluating, calibrate_evaluation
from gencond_fast.planning.evaluation_model import EvaluationModel
from gencond_fast.planning.isolated import in_own_process
from gencond_fast.planning.model import CondensingModel, Cost, condensing_memory
from gencond_fast.store.budget import bits_per_class
from gencond_fast.system.environment import describe
from gencond_fast.system.progress import Reporter

_HOLES = 0.05  # that the heap of a process grows by while it runs for longer than a miniature


@dataclass(frozen=True)
class Forecast:
    """What a number of devices takes.

    Attributes:
        devices: ranks, each with one.
        phases: seconds of each, `evaluation` last where there is one; empty where it is refused.
        compiling: seconds of them that go into compilation.
        refused: why the program would not start so many ranks; None where it does.
    """

    devices: int
    phases: dict[str, float]
    compiling: dict[str, float]
    refused: str | None = None


@dataclass(frozen=True)
class Plan:
    """What was found.

    Attributes:
        bytes: of the file, to within the digits of its header.
        bits_per_class: 8 * bytes / C.
        per_class: stored samples of a class.
        classes: C.
        images: of the training split.
        image_size: side in pixels.
        runtime: device, precision, compilation.
        memory: bytes at most of a process, by `condensing` and `evaluation`; on several devices it
            is less by what they share of a step.
        device_memory: likewise of a GPU, 0 without one.
        forecasts: one for each number of devices.
        link: bytes a second between two of them, assumed.
        calibrated_classes: of the miniature; fewer than `classes` where all would not fit.
        notes: what the plan leaves out, in sentences.
        seconds: that the calibration took.
        environment: versions and machine.
    """

    bytes: int
    bits_per_class: float
    per_class: int
    classes: int
    images: int
    image_size: int
    runtime: str
    memory: dict[str, int]
    device_memory: dict[str, int]
    forecasts: tuple[Forecast, ...]
    link: int
    calibrated_classes: int
    notes: tuple[str, ...]
    seconds: float
    environment: dict[str, Any]

    def to_plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def make_plan(
    config: Config,
    evaluation: EvaluateConfig,
    plan: PlanConfig,
    reporter: Reporter | None = None,
) -> Plan:
    """Predicts bytes, memory and time from miniatures that are run on this machine.

    Nothing is kept but the index of the data. What earlier runs have left in the cache is not
    counted on: networks, statistics and compiled code are as good as not there.

    Args:
        config: of the condensation; `out` does not matter.
        evaluation: of the evaluation; `run` and `data` do not matter.
        plan: devices, and the size of data that are not at hand.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the data or an option cannot be used or planned.
        RunError: a miniature diverged, or its process died.
    """
    reporter = reporter or Reporter()
    if config.privacy.on:
        raise InputError("plan does not know what a private run costs: leave privacy.epsilon out")
    unknown = {
        "networks of a mixture": config.networks.mixture,
        "attacks": evaluation.attack.names,
        "the baseline jpeg": "jpeg" in evaluation.baselines,
        "students together": evaluation.parallel_students > 1,
        "students without augmentation": evaluation.without_augmentation,
    }
    if asked := [name for name, wanted in unknown.items() if wanted]:
        raise InputError(f"plan does not know what {', '.join(asked)} cost: leave them out")
    start = time.monotonic()
    with TemporaryDirectory(prefix="gencond-plan-") as folder:
        reporter.message("calibrating: a condensation of few steps and few images")
        condensing = in_own_process(calibrate_condensing, config, plan, None, Path(folder, "a"))
        smaller = None
        if condensing.mini.classes < condensing.full.classes:
            classes = max(2, condensing.mini.classes // 2)
            reporter.message(f"calibrating: the same with {classes} classes, for the memory")
            smaller = in_own_process(calibrate_condensing, config, plan, classes, Path(folder, "b"))
        reporter.message("calibrating: a few steps of students")
        students = in_own_process(calibrate_evaluation, config, evaluation, plan, Path(folder, "a"))
    seconds = time.monotonic() - start
    return _plan(config, evaluation, plan, condensing, smaller, students, seconds)


def _plan(
    config: Config,
    evaluation: EvaluateConfig,
    plan: PlanConfig,
    condensing: Condensing,
    smaller: Condensing | None,
    students: Evaluating | None,
    seconds: float,
) -> Plan:
    full = condensing.full
    model = CondensingModel(condensing, plan.link)
    lessons = None if students is None else EvaluationModel(students, condensing, evaluation)
    memory, device = condensing_memory(condensing, smaller)
    found = {"condensing": (memory, device)}
    if lessons is not None:
        found["evaluation"] = lessons.memory
    return Plan(
        bytes=condensing.size,
        bits_per_class=bits_per_class(condensing.size, full.classes),
        per_class=condensing.per_class,
        classes=full.classes,
        images=full.images,
        image_size=condensing.image_size,
        runtime=condensing.runtime,
        memory={name: round(both[0] * (1 + _HOLES)) for name, both in found.items()},
        device_memory={name: both[1] for name, both in found.items()},
        forecasts=tuple(
            _forecast(devices, model, lessons, condensing.refused.get(devices))
            for devices in plan.devices
        ),
        link=plan.link,
        calibrated_classes=condensing.mini.classes,
        notes=tuple(_notes(condensing, students)),
        seconds=seconds,
        environment=describe(),
    )


def _forecast(
    devices: int,
    model: CondensingModel,
    lessons: EvaluationModel | None,
    refused: str | None,
) -> Forecast:
    if refused is not None:
        return Forecast(devices, {}, {}, refused)
    phases: dict[str, Cost] = model.cost(devices).phases()
    if lessons is not None:
        phases["evaluation"] = lessons.cost(devices)
    return Forecast(
        devices,
        {name: cost.seconds for name, cost in phases.items()},
        {name: cost.compiling for name, cost in phases.items()},
    )


def _notes(condensing: Condensing, students: Evaluating | None) -> list[str]:
    found = []
    if condensing.reading is None:
        found.append("the data are not at hand: the time to read and decode them is left out")
    if students is None:
        found.append("the data have no validation split: evaluate could test nothing")
    if condensing.mini.classes < condensing.full.classes:
        found.append(
            f"measured with {condensing.mini.classes} of {condensing.full.classes} classes, and "
            "extended in proportion: rougher than otherwise"
        )
    return found
