"""An evaluation without --json leaves its result in the run directory, where `report` finds it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import call

from gencond_fast.store.artifact import FILE_NAME

BRIEF = ("--data", "digits", "--seeds", 1, "--epochs", 1)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def left(run: Path) -> list[Path]:
    return sorted(run.glob("evaluation*.json"))


@pytest.mark.parametrize("name", [".", FILE_NAME])
def test_report_finds_the_result_of_a_run(run: Path, name: str) -> None:
    before = call("report", run)
    assert before.code == 0, before.err
    assert "Not evaluated yet" in (run / "report.html").read_text()
    done = call("evaluate", run / name, *BRIEF)
    assert done.code == 0, done.err
    (place,) = left(run)
    assert done.out.endswith(f"result: {place}\n")
    mean = json.loads(place.read_text())["rows"][0]["mean"]
    assert call("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "Not evaluated yet" not in page
    assert f"{100 * mean:.2f}" in page
    assert place.name in page
    assert (run / "accuracy.png").is_file()


def test_the_same_command_replaces_its_result_and_another_one_keeps_it(run: Path) -> None:
    for more in ((), (), ("--seeds", 2), ("--protocol", "modern"), ("--model", "convnet3@16")):
        assert call("evaluate", run, *BRIEF, *more, "--quiet").code == 0
    names = [path.name for path in left(run)]
    assert len(names) == 4
    assert [name.startswith("evaluation-dc-1-") for name in names].count(True) == 3
    assert [name.startswith("evaluation-modern-1-") for name in names].count(True) == 1


def test_one_result_from_any_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("evaluate", run, *BRIEF).code == 0
    monkeypatch.chdir(run)
    assert call("evaluate", ".", *BRIEF).code == 0
    monkeypatch.chdir(run.parent)
    assert call("evaluate", f"run/{FILE_NAME}", *BRIEF).code == 0
    assert len(left(run)) == 1


def test_json_goes_where_it_is_wanted_and_nowhere_else(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    done = call("evaluate", run, *BRIEF, "--json", file)
    assert done.code == 0, done.err
    assert file.is_file()
    assert left(run) == []
    assert "result:" not in done.out


def test_other_files_leave_nothing(run: Path, tmp_path: Path) -> None:
    lonely, second = tmp_path / FILE_NAME, run / "second.safetensors"
    for file in (lonely, second):
        shutil.copy(run / FILE_NAME, file)
        done = call("evaluate", file, *BRIEF)
        assert done.code == 0, done.err
        assert "result:" not in done.out
        assert list(file.parent.rglob("evaluation*.json")) == []


def test_a_directory_that_cannot_be_written_costs_a_note(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*paths: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("gencond_fast.cli.shared.write_json", refusing)
    done = call("evaluate", run, *BRIEF, "--quiet")
    assert done.code == 0
    assert "stored" in done.out
    assert "could not be written (Permission denied)" in done.err
    assert "--json FILE" in done.err
    assert left(run) == []
