"""What `plan` predicts, against what the same condensation and evaluation then take.

The plan calibrates in processes of its own, and so is each real run one. Neither finds anything of
an earlier one: networks, statistics and compiled code lie in a folder that is new for each setting.
Only the index of the data is made beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gencond_fast.condensation import condense
from gencond_fast.condensation.task import open_config
from gencond_fast.config import Config, EvaluateConfig, PlanConfig
from gencond_fast.config.options import resolve
from gencond_fast.evaluation import evaluate
from gencond_fast.planning import Plan, make_plan
from gencond_fast.planning.isolated import in_own_process, keep_to
from gencond_fast.planning.watch import Timeline, Watch
from gencond_fast.store.artifact import FILE_NAME
from gencond_fast.system.progress import PlainReporter

Row = dict[str, object]


@dataclass(frozen=True)
class Setting:
    """A condensation and an evaluation, short enough to be run.

    Attributes:
        data: name of the data set, below the folder of all of them.
        preset: of the condensation.
        options: of it, over the preset.
        evaluation: options of the evaluation.
    """

    data: str
    preset: str
    options: dict[str, Any]
    evaluation: dict[str, Any] = field(default_factory=dict)

    def configs(self, root: Path) -> tuple[Config, EvaluateConfig]:
        """All options; run directories are still to be named."""
        known = self.data == "digits"
        data = self.data if known else str((root / self.data).expanduser().absolute())
        config = resolve(self.options, {"data": data, "out": ""}, preset=self.preset)
        return config, EvaluateConfig(run="", data=data, **self.evaluation)


_TWO = {"seeds": 2, "baselines": ("random",)}

SETTINGS = {
    "digits": Setting("digits", "quick", {"ipc": 10}, {"epochs": 60, "baselines": ("random",)}),
    "digits-generator": Setting(
        "digits",
        "quick",
        {"ipc": 10, "store": {"format": "generator"}, "training": {"steps": 600}},
        {"epochs": 30, **_TWO},
    ),
    "digits-accurate": Setting(
        "digits",
        "accurate",
        {"ipc": 10, "training": {"steps": 100}, "trajectory": {"steps": 60}},
        {"epochs": 30, "protocol": "modern", **_TWO},
    ),
    "digits-soft": Setting(
        "digits",
        "quick",
        {
            "ipc": 10,
            "training": {"steps": 200},
            "store": {"soft_labels": 3},
            "labels": {"source": "full_data"},
        },
        {"epochs": 30, "protocol": "soft", "seeds": 2},
    ),
    "cifar10": Setting(
        *("cifar10", "quick", {"ipc": 1, "training": {"steps": 200}}), {"epochs": 20, **_TWO}
    ),
    "cifar10-ipc10": Setting(
        *("cifar10", "quick", {"ipc": 10, "training": {"steps": 100}}), {"epochs": 3, "seeds": 1}
    ),
    "imagenette64": Setting(
        "imagenette128.tar",
        "quick",
        {"ipc": 1, "image_size": 64, "training": {"steps": 60}},
        {"epochs": 5, **_TWO},
    ),
}


def measure(name: str, root: Path) -> Iterator[Row]:
    """Plans a setting, runs it, and gives a row of each phase, of memory and of bytes.

    Args:
        name: of a setting.
        root: folder of the data sets.
    """
    setting = SETTINGS[name]
    config, evaluation = setting.configs(root)
    plan = make_plan(config, evaluation, PlanConfig(devices=(1,)), PlainReporter())
    with TemporaryDirectory(prefix="gencond-real-") as folder:
        place = Path(folder)
        in_own_process(_index, config, place)
        condensed = in_own_process(_condense, config, place)
        evaluated = in_own_process(_evaluate, evaluation, place)
        size = (place / "run" / FILE_NAME).stat().st_size
    key = {"benchmark": "plan", "data": setting.data, "setting": name}
    for what, unit, predicted, actual in _pairs(plan, condensed, evaluated, size):
        yield {
            **key,
            "quantity": what,
            "unit": unit,
            "predicted": round(predicted, 3),
            "actual": round(actual, 3),
            "ratio": round(predicted / actual, 4) if actual else "",
        }


def _pairs(
    plan: Plan, condensed: Timeline, evaluated: Timeline, size: int
) -> Iterator[tuple[str, str, float, float]]:
    """Predicted and actual: first what is promised, then the phases."""
    found = plan.forecasts[0].phases
    taken = condensed.condensing() | {"evaluation": evaluated.ended - evaluated.began}
    yield "bytes", "bytes", plan.bytes, size
    yield "memory, condensing", "MB", plan.memory["condensing"] / 1e6, condensed.peak / 1e6
    yield "memory, evaluation", "MB", plan.memory["evaluation"] / 1e6, evaluated.peak / 1e6
    yield "time, together", "s", sum(found.values()), sum(taken.values())
    yield "time of the plan", "s", plan.seconds, 0.0
    for phase, seconds in taken.items():
        if seconds or found[phase]:
            yield f"time, {phase}", "s", found[phase], seconds


def _index(config: Config, folder: Path, began: float) -> None:
    keep_to(folder)
    open_config(config, Watch())


def _condense(config: Config, folder: Path, began: float) -> Timeline:
    keep_to(folder)
    watch = Watch()
    source = open_config(config, watch)
    opened = time.monotonic()
    condense(replace(config, out=str(folder / "run")), watch, source=source)
    return watch.timeline(began, opened, opened)


def _evaluate(config: EvaluateConfig, folder: Path, began: float) -> Timeline:
    keep_to(folder)
    watch = Watch()
    evaluate(replace(config, run=str(folder / "run")), watch)
    return watch.timeline(began, began, began)
