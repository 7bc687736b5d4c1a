"""The students' benchmark times what it has found to agree."""

from __future__ import annotations

import csv

import pytest
from click.testing import CliRunner

from benchmarks import run, students
from gencond_fast.training.train import train_students

ARGUMENTS = ["students", "--data", "digits", "--ipc", "2", "--students", "2", "--epochs", "1"]


def test_speed_and_start_are_written_down(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "_RESULTS", tmp_path)
    done = CliRunner().invoke(run.main, [*ARGUMENTS, "--rounds", "3"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "students.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["provider"]: row for row in csv.DictReader(file)}
    assert list(rows) == [
        "gencond_fast",
        "gencond_fast, 2 together",
        "eager float32",
        "eager bfloat16",
        "eager float32, 2 together",
    ]
    for row in rows.values():
        # an epoch of two students that see four images each: two steps
        assert float(row["step_ms"]) == pytest.approx(float(row["median_ms"]) / 2, rel=1e-3)
        assert float(row["start_s"]) >= 0


def test_students_that_learn_otherwise_are_not_timed(monkeypatch, tmp_path):
    def spoiled(trained, data, **options):
        steps = train_students(trained, data, **options)
        if len(trained) > 1:
            trained[0].classifier.weight.data.mul_(1.5)
        return steps

    monkeypatch.setattr(students, "train_students", spoiled)
    monkeypatch.setattr(run, "_RESULTS", tmp_path)
    done = CliRunner().invoke(run.main, ARGUMENTS)
    assert isinstance(done.exception, AssertionError)
    assert "2 at once" in str(done.exception)
    assert not list(tmp_path.iterdir())
