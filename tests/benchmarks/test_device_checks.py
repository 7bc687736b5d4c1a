"""The runner of what waits for a GPU, and whether its commands still exist."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path

import click
import click.testing
import command_line
import pytest

from benchmarks import run as benchmark_runner
from benchmarks.device import CHECKS, Check, main, read_checks, run_checks
from gencond_fast.cli.main import cli
from gencond_fast.errors import InputError

ROOT = Path(__file__).parents[2]


def parsed(arguments: list[str]) -> None:
    """Raises click's own error unless a command has all of these options."""
    program, name, *options = arguments
    group = cli if program == "gencond-fast" else benchmark_runner.main
    command_line.parsed(group, name, options)


def test_every_command_is_one_of_today():
    programs = set()
    for check in read_checks(CHECKS):
        for part in check.command.split("&&"):
            words = shlex.split(part)
            programs.add(words[0])
            if words[0] == "gencond-fast":
                parsed(words)
            elif words[:3] == ["python", "-m", "benchmarks.run"]:
                parsed(words[2:])
            elif "pytest" in words:
                files = [word for word in words if word.startswith("tests/")]
                assert all((ROOT / file).exists() for file in files), words
    assert programs == {"gencond-fast", "python", "compute-sanitizer"}
    with pytest.raises(click.UsageError):
        parsed(["gencond-fast", "condense", "--data", "x", "--out", "y", "--nonsense", "1"])


def test_checks_pass_fail_and_run_out_of_time_and_the_next_ones_start(tmp_path):
    left = tmp_path / "left"
    checks = (
        Check("fine", 20, "echo {data} > {out}/made"),
        Check("wrong", 20, "echo something; exit 3"),
        Check("endless", 0.5, f"(sleep 3; touch {left}) & echo begun; wait"),
        Check("last", 20, "true"),
    )
    start = time.monotonic()
    found = run_checks(checks, Path("somewhere"), tmp_path, 60)
    assert {name: each.code for name, each in found.items()} == {
        "fine": 0, "wrong": 3, "endless": None, "last": 0,
    }  # fmt: skip
    assert (tmp_path / "made").read_text() == "somewhere\n"
    assert found["wrong"].tail == "something\n"
    assert found["endless"].tail == "begun\n"
    time.sleep(max(0.0, 4.0 - (time.monotonic() - start)))
    assert not left.exists(), "what a check has started ends with it"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["checks"]) == ["fine", "wrong", "endless", "last"]
    assert summary["environment"]["versions"]["torch"]


def test_what_passed_is_not_run_again(tmp_path):
    count = tmp_path / "count"
    checks = (Check("a", 20, f"echo a >> {count}"), Check("b", 20, f"echo b >> {count}; false"))
    run_checks(checks, tmp_path, tmp_path, 60)
    found = run_checks(checks, tmp_path, tmp_path, 60)
    assert count.read_text().split() == ["a", "b", "b"]
    assert [found[name].code for name in "ab"] == [0, 1]


def test_without_time_nothing_starts(tmp_path):
    assert run_checks((Check("a", 20, "touch {out}/made"),), tmp_path, tmp_path, 0) == {}
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("checks: []", "checks"),
        ("checks: [{name: A b, seconds: 1, command: x}]", "name"),
        ("checks: [{name: a, seconds: 0, command: x}]", "seconds"),
        ("checks: [{name: a, seconds: 1, command: x, more: 1}]", "more"),
        (
            "checks: [{name: a, seconds: 1, command: x}, {name: a, seconds: 1, command: x}]",
            "several checks with the name 'a'",
        ),
    ],
)
def test_files_that_are_none(tmp_path, text, words):
    path = tmp_path / "checks.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_checks(path)


def test_without_a_gpu_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = click.testing.CliRunner().invoke(main, ["--data", "x", "--out", str(tmp_path / "o")])
    assert result.exit_code == 2
    assert "no CUDA device" in result.output
    assert not (tmp_path / "o").exists()
