"""`condense --minutes`: steps that fit the time, chosen once for a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from command_line import TINY, call, options_of, refused

from gencond_fast import planning

WITHOUT_STEPS = tuple(part for part in TINY if part not in ("--steps", "40"))


@pytest.fixture
def fitted(monkeypatch):
    """The calls of a planner that gives 5 steps the first time, and one more each time."""
    calls = []

    def fit_minutes(config, minutes, reporter):
        calls.append(minutes)
        training = replace(config.training, steps=4 + len(calls))
        return replace(config, training=training)

    monkeypatch.setattr(planning, "fit_minutes", fit_minutes, raising=False)
    return calls


def condense(out, *more):
    return call("condense", "--data", "digits", "--out", out, *WITHOUT_STEPS, *more)


def test_the_steps_are_those_that_the_planner_gives(tmp_path, fitted):
    done = condense(tmp_path / "run", "--minutes", "1.5")
    assert done.code == 0, done.err
    assert fitted == [1.5]
    assert options_of(tmp_path / "run")["training"]["steps"] == 5


def test_a_run_that_continues_keeps_its_steps(tmp_path, fitted):
    assert condense(tmp_path / "run", "--minutes", 2).code == 0
    (tmp_path / "run" / "condensed.safetensors").unlink()
    again = condense(tmp_path / "run", "--minutes", 2)
    assert again.code == 0, again.err
    assert fitted == [2.0]
    assert options_of(tmp_path / "run")["training"]["steps"] == 5


def test_minutes_and_steps_exclude_each_other(tmp_path, fitted):
    refused(condense(tmp_path / "run", "--minutes", 2, "--steps", 3), "leave out --steps or")
    assert fitted == []
    assert condense(tmp_path / "run", "--minutes", 0).code == 2
