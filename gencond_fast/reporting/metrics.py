"""`metrics.jsonl` as curves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from gencond_fast.errors import InputError

_SPEED = "images_per_second"
_MOST = 2**62  # of steps, and of values, that can be drawn


@dataclass(frozen=True, eq=False)
class Curve:
    """One quantity over the steps.

    Attributes:
        steps: int64 [K], ascending.
        values: float64 [K], finite.
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Metrics:
    """What a run logged.

    Attributes:
        terms: every term of the loss, as it was added up, by name.
        speed: images a second, empty where nothing was logged.
        stages: the name of each stage, with the first step that was logged in it.
        torn: lines that could not be read.
    """

    terms: dict[str, Curve]
    speed: Curve
    stages: list[tuple[str, int]]
    torn: int


def read_metrics(path: Path) -> Metrics:
    """Reads a file of metrics; nothing where there is none.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from None
    lines = [line for line in text.split("\n") if line.strip()]
    parsed = [fields for fields in map(_parse, lines) if fields is not None]
    by_step = dict(sorted(dict(parsed).items()))
    names = dict.fromkeys(name for fields in by_step.values() for name in fields)
    terms = {name: _curve(by_step, name) for name in names if name not in ("step", "stage", _SPEED)}
    return Metrics(
        terms={name: curve for name, curve in terms.items() if len(curve.steps)},
        speed=_curve(by_step, _SPEED),
        stages=_stages(by_step),
        torn=len(lines) - len(parsed),
    )


def _parse(line: str) -> tuple[int, dict[str, Any]] | None:
    """The step of a line and its fields, None for one that was torn."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = fields.get("step") if isinstance(fields, dict) else None
    return (step, fields) if type(step) is int and 0 < step < _MOST else None


def _curve(by_step: dict[int, dict[str, Any]], name: str) -> Curve:
    values = {step: fields.get(name) for step, fields in by_step.items()}
    kept = {step: float(value) for step, value in values.items() if _is_number(value)}
    steps = np.array(list(kept), dtype=np.int64)
    return Curve(steps, np.array(list(kept.values()), dtype=np.float64))


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is one that can be drawn, and neither a truth value, NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST < value < _MOST


def _stages(by_step: dict[int, dict[str, Any]]) -> list[tuple[str, int]]:
    stages: list[tuple[str, int]] = []
    for step, fields in by_step.items():
        name = str(fields.get("stage", ""))
        if name and (not stages or stages[-1][0] != name):
            stages.append((name, step))
    return stages
