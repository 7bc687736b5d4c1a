"""What a finished run left in its directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gencond_fast.config import Config
from gencond_fast.config.options import read_run_config
from gencond_fast.config.steps import with_steps
from gencond_fast.errors import InputError
from gencond_fast.evaluation.nearest import NearestImages
from gencond_fast.evaluation.result import EvaluationResult
from gencond_fast.reporting.metrics import Metrics, read_metrics
from gencond_fast.store.artifact import FILE_NAME, Artifact, load

_LARGEST_JSON = 16 * 1024**2  # results are a few kilobytes; others are no business of ours


@dataclass(frozen=True, eq=False)
class Record:
    """One finished run.

    Attributes:
        directory: of the run.
        name: what the page calls it, unlike that of any other run on the page.
        artifact: the condensed file.
        config: all options.
        environment: versions and machine, None where the run has no record of them.
        metrics: loss terms and speed over the steps.
        evaluations: results by file name, in alphabetical order.
        nearest: training images that are nearest to stored samples, None where `score` left none.
    """

    directory: Path
    name: str
    artifact: Artifact
    config: Config
    environment: dict[str, Any] | None
    metrics: Metrics
    evaluations: dict[str, EvaluationResult]
    nearest: NearestImages | None

    @property
    def data_name(self) -> str:
        """The last part of where the data lies: the rest is nobody else's business."""
        return Path(self.config.data).name or self.config.data


def read_records(directories: Sequence[str | Path]) -> list[Record]:
    """Reads runs, each directory once, and gives them names that tell them apart.

    Raises:
        InputError: as `read_record`.
    """
    places = {Path(directory).absolute(): str(directory) for directory in directories}
    records = [read_record(place) for place in places]
    names = [record.name for record in records]
    return [
        replace(record, name=given) if names.count(record.name) > 1 else record
        for record, given in zip(records, places.values(), strict=True)
    ]


def read_record(directory: Path) -> Record:
    """Reads a run directory.

    Lines of metrics that a crash has torn are left out, and so is any JSON file that `evaluate`
    has not written.

    Raises:
        InputError: it is no run directory, the run is not finished, or a file is damaged.
    """
    if not (directory / "config.yaml").is_file():
        raise InputError(
            f"{directory} is no run directory (it has no config.yaml): give the --out of a "
            "finished `gencond-fast condense`"
        )
    if not (directory / FILE_NAME).is_file():
        raise InputError(
            f"the run in {directory} is not finished (it has no {FILE_NAME}): run its "
            "`gencond-fast condense` again, which continues it"
        )
    artifact = load(directory)
    return Record(
        directory=directory,
        name=directory.resolve().name,
        artifact=artifact,
        config=with_steps(_read_config(directory), artifact.metadata.store.image_size),
        environment=_read_environment(directory / "environment.json"),
        metrics=read_metrics(directory / "metrics.jsonl"),
        evaluations=_read_evaluations(directory),
        nearest=_read_nearest(directory),
    )


def _read_config(directory: Path) -> Config:
    path = directory / "config.yaml"
    try:
        return read_run_config(path)
    except InputError as error:
        raise InputError(f"{path} is damaged ({error}): mend it or condense again") from None


def _read_environment(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    values = _read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged: remove it, and the report does without")
    return values


def _read_evaluations(directory: Path) -> dict[str, EvaluationResult]:
    found = {}
    for path in sorted(directory.glob("*.json")):
        values = _read_json(path)
        try:
            found[path.name] = EvaluationResult.from_dict(values)
        except ValueError:
            continue
    return found


def _read_nearest(directory: Path) -> NearestImages | None:
    """Of the last `score` of the file as it is now."""
    made = (directory / FILE_NAME).stat().st_mtime
    ages = [(path.stat().st_mtime, path) for path in directory.glob("*.json") if path.is_file()]
    for age, path in sorted(ages, reverse=True):
        values = _read_json(path) if age >= made else None
        if isinstance(values, dict) and "nearest" in values:
            try:
                return NearestImages.from_dict(values["nearest"])
            except ValueError:
                continue
    return None


def _read_json(path: Path) -> Any:
    """The content of a JSON file, None where it holds none."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_JSON:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        return None
