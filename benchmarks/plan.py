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
from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.config.options import resolve
from gencond_fast.evaluation import evaluate
from gencond_fast.planning import Plan, plan
from gencond_fast.planning.calibrate import phases
from gencond_fast.planning.recording import RecordingReporter, in_own_process
from gencond_fast.planning.short_run import cache_in
from gencond_fast.store.artifact import FILE_NAME
from gencond_fast.system.memory import peak_memory
from gencond_fast.system.progress import PlainReporter, Reporter

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


@dataclass(frozen=True)
class Taken:
    """What a run took: seconds, and bytes of memory at most."""

    seconds: dict[str, float]
    peak: int


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
    planned = plan(config, evaluation, reporter=PlainReporter())
    open_config(config, Reporter())  # writes the index of the data
    with TemporaryDirectory(prefix="gencond-real-") as folder:
        place = Path(folder)
        condensed = in_own_process(place, _condense, config)
        evaluated = in_own_process(place, _evaluate, evaluation)
        size = (place / "run" / FILE_NAME).stat().st_size
    key = {"benchmark": "plan", "data": setting.data, "setting": name}
    for what, unit, predicted, actual in _pairs(planned, condensed, evaluated, size):
        yield {
            **key,
            "quantity": what,
            "unit": unit,
            "predicted": round(predicted, 3),
            "actual": round(actual, 3),
            "ratio": round(predicted / actual, 4) if actual else "",
        }


def _pairs(
    planned: Plan, condensed: Taken, evaluated: Taken, size: int
) -> Iterator[tuple[str, str, float, float]]:
    """Predicted and actual: first what is promised, then the phases."""
    found, taken = planned.seconds, condensed.seconds | evaluated.seconds
    yield "bytes", "bytes", planned.bytes, size
    for name, peak in (("condensing", condensed.peak), ("evaluation", evaluated.peak)):
        yield f"memory, {name}", "MB", planned.memory[name] / 1e6, peak / 1e6
    yield "time, together", "s", sum(found.values()), sum(taken.values())
    yield "time of the plan", "s", planned.calibration, 0.0
    for phase, seconds in taken.items():
        if seconds or found[phase]:
            yield f"time, {phase}", "s", found[phase], seconds


def _condense(folder: Path, config: Config, began: float) -> Taken:
    reporter = RecordingReporter()
    source = open_config(config, reporter)
    cache_in(folder)
    condense(replace(config, out=str(folder / "run")), reporter, source=source)
    return Taken(phases(reporter.spans, began, time.monotonic()), peak_memory())


def _evaluate(folder: Path, config: EvaluateConfig, began: float) -> Taken:
    cache_in(folder)
    evaluate(replace(config, run=str(folder / "run")), RecordingReporter())
    return Taken({"evaluation": time.monotonic() - began}, peak_memory())
