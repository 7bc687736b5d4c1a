"""The command that `condense` suggests is one that works, and its time is an honest guess."""

from __future__ import annotations

import re
import shlex

import command_line
import pytest
from command_line import TINY, call

from gencond_fast.cli.main import cli
from gencond_fast.evaluation import suggestion
from gencond_fast.store.artifact import load
from gencond_fast.training.protocol import DC


def suggested(run, **options):
    given = {"run": str(run), "data": "digits", "device": "auto"} | options
    return suggestion.suggest_evaluation(load(run), **given)


def test_the_suggestion_is_a_command_with_a_time(tiny_run):
    command, _, comment = suggested(tiny_run).partition("  # ")
    assert re.fullmatch(r"about \d+ min|less than a minute", comment)
    program, name, *arguments = shlex.split(command)
    assert (program, name) == ("gencond-fast", "evaluate")
    options = command_line.parsed(cli, name, arguments).params
    assert options["run"] == str(tiny_run)
    assert options["baselines"] == ("random", "jpeg")
    assert options["epochs"] is None
    assert options["student_steps"] >= 300


def test_steps_fit_the_time_and_are_enough():
    steps = suggestion._steps
    assert steps(0.0, 100, DC) == 1000
    assert steps(0.1, 100, DC) == 1000
    assert steps(0.1, 2100, DC) == 9000  # of an epoch nine
    assert steps(0.2, 2100, DC) == 2700
    assert steps(0.4, 2100, DC) == 900
    assert steps(2.0, 2100, DC) == 300
    assert steps(60.0, 100, DC) == 300  # fewer would say nothing


@pytest.mark.parametrize(("seconds", "words"), [(5, "less than a minute"), (700, "about 12 min")])
def test_times_in_words(seconds, words):
    assert suggestion._about(seconds) == words


def test_a_file_too_small_for_jpeg_has_no_such_baseline(tmp_path, monkeypatch):
    monkeypatch.setattr(suggestion, "_jpeg_bytes", lambda artifact: 80.0)
    run = tmp_path / "run"
    done = call(
        *("condense", "--data", "digits", "--out", run, *TINY),
        *("--bytes", "1500", "--steps", 0, "--device", "cpu"),
    )
    assert done.code == 0, done.err
    assert "--baseline random" in done.out
    assert "--baseline jpeg" not in done.out
    assert "--device cpu" in done.out
