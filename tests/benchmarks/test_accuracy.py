"""Rows are run once, continued, reported when they fail; commands say what was run."""

from __future__ import annotations

import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from command_line import call

import gencond_fast.condensation
import gencond_fast.evaluation
from benchmarks import accuracy
from benchmarks.accuracy import RowFailed, Runner
from benchmarks.accuracy_rows import read_rows
from benchmarks.accuracy_table import markdown
from gencond_fast.config import Config
from gencond_fast.config.options import parse, to_plain
from gencond_fast.errors import InputError
from gencond_fast.store.artifact import load
from gencond_fast.system.interrupt import Terminated

SHIPPED = sorted((Path(accuracy.__file__).parent / "rows").glob("*.yaml"))
ROOT = Path(accuracy.__file__).parents[1]


def write(path: Path, *rows: dict, **defaults: object) -> Path:
    path.write_text(yaml.safe_dump({"defaults": defaults, "rows": list(rows)}))
    return path


def start(*arguments: object):
    return CliRunner().invoke(accuracy.main, [str(each) for each in arguments])


# rows and their commands


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"condense": {"losses.intar": 1}}, "row 'x': unknown option 'losses.intar': did you mean"),
        ({"condense": {"ipc": 1, "bytes": 8000}}, "row 'x': give the budget as ipc or as bytes"),
        ({"condense": {"preset": "slow"}}, "row 'x': unknown preset 'slow'"),
        ({"condense": {"out": "here"}}, "row 'x': option 'out' is not for a row to choose"),
        ({"evaluate": {"epoch": 3}}, "row 'x': unknown option 'epoch': did you mean 'epochs'"),
        ({"evaluate": {"seeds": 0}}, "row 'x': option 'seeds' cannot be 0"),
        ({"condens": {}}, "unknown option 'rows.0.condens'"),
        ({"data": None}, "row 'x': option 'data' is missing"),
        ({"name": "a/b"}, "option 'rows.0.name' cannot be 'a/b'"),
    ],
)
def test_a_wrong_row_is_named_before_anything_is_run(tmp_path, row, message):
    file = write(tmp_path / "rows.yaml", {"name": "x", "data": "digits"} | row)
    with pytest.raises(InputError, match="rows.yaml") as error:
        read_rows(file)
    assert message in str(error.value)
    done = start(file, "--out", tmp_path / "out")
    assert (done.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert message in done.output


def test_rows_need_names_of_their_own(tmp_path):
    file = write(tmp_path / "rows.yaml", {"name": "x"}, {"name": "x"}, data="digits")
    with pytest.raises(InputError, match="several rows with the name 'x'"):
        read_rows(file)
    done = start(write(file, {"name": "x"}, data="digits"), "--only", "y")
    assert done.exit_code == 2
    assert "--only y: there is no such row, choose from x" in done.output


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_commands_of_a_row_are_its_options(file, monkeypatch, tmp_path):
    """They are parsed by the program into the very configs that the rows were checked with."""
    seen = []

    def noted(config, *others):
        seen.append(config)
        raise InputError("noted")

    monkeypatch.setattr(gencond_fast.condensation, "condense", noted)
    monkeypatch.setattr(gencond_fast.evaluation, "evaluate", noted)
    for row in read_rows(file):
        for arguments in row.commands(tmp_path, tmp_path / "run", tmp_path / "result.json"):
            assert call(*arguments).err == "error: noted\n"
        data = row.data if row.data == "digits" else str(tmp_path / row.data)
        condense, evaluate = (to_plain(config) for config in seen)
        assert condense == to_plain(row.config) | {"data": data, "out": str(tmp_path / "run")}
        assert evaluate == to_plain(row.evaluation) | {"data": data, "run": str(tmp_path / "run")}
        seen.clear()
    listed = start(file, "--list", "--data-root", tmp_path)
    assert listed.exit_code == 0
    assert len(listed.output.splitlines()) == 3 * len(read_rows(file))


def test_choices_are_made_on_a_held_out_part():
    for file in SHIPPED:
        rows = read_rows(file)
        assert file.stem == "digits" or {row.config.val_fraction for row in rows} == {0.1}
        assert len({row.key for row in rows}) == len(rows)


def test_a_row_overrides_defaults_option_by_option(tmp_path):
    defaults = {"data": "a", "condense": {"ipc": 2, "losses.intra": 0.5}, "evaluate": {"epochs": 7}}
    first, second = read_rows(
        write(
            tmp_path / "rows.yaml",
            {"name": "x"},
            {"name": "y", "data": "b", "condense": {"ipc": None, "bytes": 9000}},
            **defaults,
        )
    )
    assert (first.config.data, first.config.ipc, first.config.losses.intra) == ("a", 2, 0.5)
    assert (second.config.data, second.config.ipc, second.config.bytes) == ("b", None, 9000)
    assert second.config.losses.intra == 0.5
    assert first.evaluation.epochs == second.evaluation.epochs == 7


# running


def evaluation(*accuracies: float) -> dict:
    row = {
        "training_set": "stored",
        "model": "convnet3",
        "images_per_class": 33,
        "accuracies": list(accuracies),
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies),
        "seconds": 90.0,
    }
    return {
        "rows": [row, row | {"training_set": "random", "images_per_class": 3}],
        "protocol": {"name": "dc"},
        "epochs": 5,
        "bytes": 12345,
        "bits_per_class": 9876.0,
        "held_out": None,
    }


class Calls(list):
    """Stands for the program: notes the commands, fails where it is told to."""

    def __init__(self, monkeypatch) -> None:
        self.errors: dict[tuple[str, str], BaseException] = {}
        monkeypatch.setattr(Runner, "_call", lambda runner, row, given: self.take(row, given))

    def take(self, row, arguments) -> None:
        self.append((row.name, arguments[0]))
        if self[-1] in self.errors:
            raise self.errors.pop(self[-1])
        if arguments[0] == "condense":
            run = Path(arguments[arguments.index("--out") + 1])
            run.mkdir(exist_ok=True)
            (run / "condensed.safetensors").touch()
        else:
            result = Path(arguments[arguments.index("--json") + 1])
            result.write_text(json.dumps(evaluation(0.5, 0.75)))


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


BOTH = [("x", "condense"), ("x", "evaluate"), ("y", "condense"), ("y", "evaluate")]
Y = {"name": "y", "condense": {"seed": 1}}


def test_finished_rows_are_not_run_again_unless_their_options_change(tmp_path, calls):
    file, out = tmp_path / "rows.yaml", tmp_path / "out"
    write(file, {"name": "x"}, Y, data="digits")
    assert start(file, "--out", out).exit_code == 0
    assert calls == BOTH
    before = (out / "x.json").read_bytes()
    assert start(file, "--out", out).exit_code == 0
    assert calls == BOTH
    write(file, {"name": "x"}, Y | {"evaluate": {"epochs": 5}}, data="digits")
    assert start(file, "--out", out).exit_code == 0
    assert calls == [*BOTH, ("y", "evaluate")]  # the condensation is the same one
    write(file, {"name": "x"}, Y | {"condense": {"seed": 2}}, data="digits")
    assert start(file, "--out", out, "--only", "y").exit_code == 0
    assert calls[5:] == [("y", "condense"), ("y", "evaluate")]
    assert (out / "x.json").read_bytes() == before
    assert [line.split(" | ")[0] for line in (out / "table.md").read_text().splitlines()[2:]] == [
        *("| x", "| x", "| y", "| y")
    ]


def test_an_option_that_is_new_makes_no_row_old(tmp_path, calls):
    file, out = write(tmp_path / "rows.yaml", {"name": "x"}, data="digits"), tmp_path / "out"
    start(file, "--out", out)
    record = json.loads((out / "x.json").read_text())
    assert parse(Config, record["options"]["condense"]) == read_rows(file)[0].config
    del record["options"]["condense"]["reader"]
    (out / "x.json").write_text(json.dumps(record))
    start(file, "--out", out)
    assert len(calls) == 2
    record["options"]["condense"]["losses"]["temperature"] = 0.7  # a default of another day
    (out / "x.json").write_text(json.dumps(record))
    start(file, "--out", out)
    assert calls[2:] == [("x", "evaluate")]


def test_a_failing_row_does_not_stop_the_others(tmp_path, calls):
    file, out = write(tmp_path / "rows.yaml", {"name": "x"}, Y, data="digits"), tmp_path / "out"
    calls.errors["x", "evaluate"] = RowFailed("evaluate ended with code 2: no data")
    done = start(file, "--out", out)
    assert done.exit_code == 1
    assert "error: x: evaluate ended with code 2: no data" in done.output
    assert calls == BOTH
    assert not (out / "x.json").exists()
    assert start(file, "--out", out).exit_code == 0
    assert calls[4:] == [("x", "evaluate")]


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_an_interrupted_row_goes_on_and_its_seconds_add_up(
    tmp_path, calls, monkeypatch, stop, code
):
    file, out = write(tmp_path / "rows.yaml", {"name": "x"}, Y, data="digits"), tmp_path / "out"
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    calls.errors["x", "condense"] = stop
    done = start(file, "--out", out)
    assert (done.exit_code, list(calls)) == (code, [("x", "condense")])
    assert "run the same command again to continue" in done.output
    assert start(file, "--out", out, "--only", "x").exit_code == 0
    found = json.loads((out / "x.json").read_text())["condense"]
    assert found == {"seconds": 20.0, "starts": 2, "finished": True, "own_cache": False}


def test_the_table_tells_condensed_sets_from_baselines():
    result = {
        "name": "x",
        "data": "digits",
        "format": "pixels",
        "condense": {"seconds": 150.0},
        **evaluation(0.5, 0.75),
    }
    _, _, stored, random = markdown([result]).splitlines()
    assert stored == (
        "| x | digits | stored | convnet3 | pixels | 33 | 12,345 | 9,876 | 62.50 ± 17.68 | 2 | 5 | "
        "dc | test | 2.5 | 1.5 |"
    )
    assert random == (
        "| x | digits | random | convnet3 |  | 3 |  |  | 62.50 ± 17.68 | 2 | 5 | "
        "dc | test |  | 1.5 |"
    )


@pytest.mark.slow
def test_digits_end_to_end(tmp_path):
    out = tmp_path / "out"
    shipped = yaml.safe_load((SHIPPED[0].parent / "digits.yaml").read_text())
    missing = {"name": "missing", "data": "nowhere"}
    file = write(tmp_path / "rows.yaml", missing, shipped["rows"][1], **shipped["defaults"])
    done = start(file, "--out", out, "--own-cache")
    assert done.exit_code == 1
    assert "error: missing: condense ended with code 2: nowhere does not exist" in done.output
    for row in read_rows(file)[1:]:
        found = json.loads((out / f"{row.name}.json").read_text())
        condense, evaluate = (shlex.split(line) for line in found["commands"])
        run = Path(condense[condense.index("--out") + 1])
        assert evaluate[:3] == ["gencond-fast", "evaluate", str(run)]
        size = (run / "condensed.safetensors").stat().st_size
        assert (found["bytes"], found["bits_per_class"]) == (size, 8 * size / 10)
        assert found["format"] == load(run).metadata.store.format == row.config.store.format
        assert found["rows"][0]["images_per_class"] == load(run).metadata.store.per_class
        assert len(found["rows"][0]["accuracies"]) == 2
        assert found["held_out"] == row.config.val_fraction
        assert found["condense"]["seconds"] > 0
        assert found["evaluate"]["seconds"] > found["rows"][0]["seconds"]
        assert found["environment"]["versions"]["torch"]
        assert (run.parent / f"{run.name}.cache" / "statistics").is_dir()


@pytest.mark.slow
def test_a_stop_is_passed_on_to_the_command_that_runs(tmp_path):
    shipped = yaml.safe_load((SHIPPED[0].parent / "digits.yaml").read_text())["defaults"]
    shipped["condense"] |= {"training.steps": 10**6, "training.checkpoint_every": 10}
    file, out = write(tmp_path / "rows.yaml", {"name": "x"}, **shipped), tmp_path / "out"
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.accuracy", str(file), "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )
    try:
        end = time.monotonic() + 120
        while not list(out.glob("runs/*/checkpoint/*.pt")):
            assert child.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 143
    finally:
        child.kill()
    assert "asked to stop" in (out / "x.log").read_text()  # said by the command, once saved
    (record,) = (json.loads(path.read_text()) for path in out.glob("runs/*.json"))
    assert (record["starts"], record["finished"]) == (1, False)
    assert record["seconds"] > 0
