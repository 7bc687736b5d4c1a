"""Killed at any moment, the same command continues, to the same bits."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import stopped
import torch
from command_line import command, metrics, refused, tree
from image_builders import pictures, write_tree
from stopping import PRODUCT, arguments, checkpoints, condense, stop, without_speed

NOISE = ("--set", "store.format=generator", "--set", "training.init=noise")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _own_cache):
    """A run that was never interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert condense(run).code == 0
    return run


def same(run, whole):
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    assert without_speed(run) == without_speed(whole)
    assert [line["step"] for line in metrics(run)] == list(range(1, 41))
    assert checkpoints(run)[-1] == checkpoints(whole)[-1]


# where it is killed, and the checkpoints that are there then; the kills follow one another
KILLS = [
    ("feature networks 3", []),
    ("real statistics 768", []),
    ("matching 7", []),
    ("write step-00000010.pt", []),
    ("matching 20", ["step-00000010.pt"]),
    ("matching 21", ["step-00000010.pt", "step-00000020.pt"]),
    ("matching 38", ["step-00000020.pt", "step-00000030.pt"]),
    (f"write {PRODUCT}", ["step-00000030.pt", "step-00000040.pt"]),
]


@pytest.mark.slow
def test_a_run_killed_again_and_again_gives_the_same_bits(tmp_path):
    def environment(cache):
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return os.environ | threads | {"GENCOND_FAST_CACHE": str(tmp_path / cache)}

    run, whole = tmp_path / "run", tmp_path / "whole"
    subprocess.run(command(*arguments(whole)), env=environment("a"), check=True)
    for place, kept in KILLS:
        line = [sys.executable, stopped.__file__, "SIGKILL", place, *arguments(run)]
        killed = subprocess.run(line, env=environment("b"), capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, (place, killed.stderr)
        assert [c for c in checkpoints(run) if not c.startswith(".")] == kept
        assert not (run / PRODUCT).exists()
    subprocess.run(command(*arguments(run)), env=environment("b"), check=True)
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    assert without_speed(run) == without_speed(whole)
    assert [line["step"] for line in metrics(run)] == list(range(1, 41))


@pytest.mark.parametrize("place", ["matching 4", "matching 20", "matching 33"])
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, 143, "error: asked to stop; run the same command again to continue\n"),
        (signal.SIGINT, 130, "error: interrupted; run the same command again to continue\n"),
    ],
)
def test_a_signal_saves_the_step_that_it_finds(whole, tmp_path, place, number, code, words):
    run = tmp_path / "run"
    ended = stop(number, place, run)
    assert (ended.code, ended.err.lstrip()) == (code, words)
    # it comes while a step is reported, and is obeyed after the next
    at = int(place.split()[1]) + 1
    assert checkpoints(run)[-1] == f"step-{at:08d}.pt"
    assert metrics(run)[-1]["step"] == at
    assert condense(run).code == 0
    same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["generator", "pixels"])
def test_other_formats_go_on_with_the_same_bits(tmp_path, format):
    more = ("--set", f"store.format={format}", "--set", "training.init=noise")
    assert condense(tmp_path / "whole", more=more).code == 0
    for place in ("matching 4", "matching 33"):  # noise is fitted first, then matched
        assert stop(signal.SIGTERM, place, tmp_path / "run", more=more).code == 143
    assert condense(tmp_path / "run", more=more).code == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_a_signal_at_the_last_step_loses_nothing(whole, tmp_path):
    stop(signal.SIGTERM, "matching 40", tmp_path / "run")
    assert condense(tmp_path / "run").code == 0
    same(tmp_path / "run", whole)


@pytest.mark.parametrize("place", ["feature networks 3", "real statistics 512"])
def test_sigterm_before_the_first_step(whole, tmp_path, monkeypatch, place):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    ended = stop(signal.SIGTERM, place, tmp_path / "run")
    assert ended.code == 143
    assert not list(tmp_path.rglob(".*"))
    assert condense(tmp_path / "run").code == 0
    same(tmp_path / "run", whole)


def test_the_start_of_a_run_killed_before_it_was_noted(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.yaml.k3j2").write_text("data:")
    assert condense(tmp_path / "run").code == 0


def interrupted(whole, run):
    """A copy of a run as it was before its product was written, and its two checkpoints."""
    shutil.copytree(whole, run)
    (run / PRODUCT).unlink()
    return [run / "checkpoint" / name for name in checkpoints(run)]


@pytest.mark.parametrize("spoil", ["cut", "empty", "text", "bits flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole, tmp_path, spoil):
    run = tmp_path / "run"
    previous, newest = interrupted(whole, run)
    content = newest.read_bytes()
    half = len(content) // 2
    newest.write_bytes(
        {
            "cut": content[:half],
            "empty": b"",
            "text": b"hello",
            "bits flipped": content[:half] + b"\xff" * 8 + content[half + 8 :],
        }[spoil]
    )
    done = condense(run)
    assert done.code == 0
    assert "resuming at step 30" in done.err
    same(run, whole)


def test_without_a_usable_checkpoint_the_run_starts_over(whole, tmp_path):
    for checkpoint in interrupted(whole, tmp_path / "run"):
        checkpoint.write_bytes(b"")
    done = condense(tmp_path / "run")
    assert done.code == 0
    assert "resuming" not in done.err
    same(tmp_path / "run", whole)


def test_a_checkpoint_executes_nothing(whole, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    _, newest = interrupted(whole, tmp_path / "run")
    evil = io.BytesIO()
    torch.save({"step": Evil()}, evil)
    newest.write_bytes(evil.getvalue() + hashlib.sha256(evil.getvalue()).digest())
    assert condense(tmp_path / "run").code == 0
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("damage", ["a torn last line", "zeros", "gone"])
def test_damaged_metrics_do_not_stop_a_run(whole, tmp_path, damage):
    run = tmp_path / "run"
    interrupted(whole, run)
    file = run / "metrics.jsonl"
    if damage == "gone":
        file.unlink()
    else:
        tail = b'{"step": 41, "sta' if damage == "a torn last line" else bytes(30) + b"\n"
        file.write_bytes(file.read_bytes() + tail)
    assert condense(run).code == 0
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    for line in file.read_text().splitlines() if file.exists() else ():
        json.loads(line)


def test_other_data_than_before_the_interruption_is_refused(tmp_path):
    data = write_tree(tmp_path / "set", pictures(6, ("ant", "bee")))
    run = tmp_path / "run"
    assert stop(signal.SIGTERM, "matching 12", run, data).code == 143
    write_tree(data, pictures(7, ("ant", "bee"), seed=1))
    before = tree(run)
    refused(condense(run, data, ["--quiet"]), f"the data in {data} has changed since the run")
    assert tree(run) == before


def test_a_diverging_run_ends_with_its_step_and_term(tmp_path):
    run = tmp_path / "run"
    failed = condense(run, more=(*NOISE, "--set", "training.match_lr=1e39"))
    assert failed.code == 1
    last = failed.err.splitlines()[-1]
    assert last.startswith("error: step 22: the term(s) ")
    assert "mean" in last
    assert "the last checkpoint is kept" in last
    assert checkpoints(run)[-1] == "step-00000020.pt"
    assert metrics(run)[-1]["step"] == 21
    assert not (run / PRODUCT).exists()


def test_a_run_that_diverges_in_its_last_step_has_no_product(tmp_path):
    rate = (*NOISE, "--steps", 2, "--set", "training.match_lr=1e39")
    failed = condense(tmp_path / "run", more=rate)
    assert failed.code == 1
    assert "not finite" in failed.err.splitlines()[-1]
    assert not (tmp_path / "run" / PRODUCT).exists()
