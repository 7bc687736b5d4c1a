"""What students withstood, and the scores that follow from accuracies: more tables of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gencond_fast.evaluation.result import CONDENSED, Row
from gencond_fast.reporting.accuracy import trained_on
from gencond_fast.reporting.record import Record


@dataclass(frozen=True)
class Withstood:
    """Students of one training set under attack.

    Attributes:
        trained_on: the training set in words.
        baseline: whether that is no condensed one.
        model: the student.
        cells: mean and standard deviation in per cent for each column of the table.
    """

    trained_on: str
    baseline: bool
    model: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class AttackTable:
    """The attacks of one evaluation.

    Attributes:
        file: the result.
        names: columns, `clean` first.
        strength: of the attacks, in words.
        rows: condensed sets first.
    """

    file: str
    names: tuple[str, ...]
    strength: str
    rows: tuple[Withstood, ...]


@dataclass(frozen=True)
class RobustScore:
    """A score of DD-Ranking (2505.13300).

    Attributes:
        name: with the weight that it is taken at.
        file: the result that it follows from.
        model: the student.
        score: in [0, 1].
    """

    name: str
    file: str
    model: str
    score: float


def attack_tables(record: Record) -> list[AttackTable]:
    """A table of each evaluation of a run that attacked its students."""
    tables = []
    for file, result in record.evaluations.items():
        first = result.rows[0].attacked if result.rows else {}
        names = tuple(name for name in first if all(name in row.attacked for row in result.rows))
        if names:
            rows = sorted(result.rows, key=lambda row: row.training_set not in CONDENSED)
            withstood = tuple(_withstood(row, names) for row in rows)
            tables.append(AttackTable(file, names, _strength(result.attack or {}), withstood))
    return tables


def robust_scores(record: Record) -> list[RobustScore]:
    """The scores of all evaluations that have the students which they need."""
    return [
        RobustScore(name, file, model, score)
        for file, result in record.evaluations.items()
        for name, scores in {
            "label-robust score (w = 0.5)": result.label_robust_scores,
            "augmentation-robust score (gamma = 0.5)": result.augmentation_robust_scores,
        }.items()
        for model, score in scores.items()
    ]


def _withstood(row: Row, names: Sequence[str]) -> Withstood:
    mean, std = row.attacked_mean, row.attacked_std
    cells = (
        f"{100 * mean[name]:.2f}" + (f" ± {100 * std[name]:.2f}" if len(row.accuracies) > 1 else "")
        for name in names
    )
    return Withstood(trained_on(row), row.training_set not in CONDENSED, row.model, tuple(cells))


def _strength(attack: Mapping[str, object]) -> str:
    """Whatever of it the result states."""
    told = {
        "epsilon": "within {}/255 of every pixel (L-infinity)",
        "steps": "pgd of {} steps",
        "step_size": "of {}/255 each",
        "images": "on {} test images",
    }
    return ", ".join(text.format(attack[key]) for key, text in told.items() if key in attack)
