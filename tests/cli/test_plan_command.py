"""`plan`: what it promises is what a run then takes, and it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import TINY, call, refused
from image_builders import pictures, write_tree

STUDENTS = ("--epochs", 2, "--seeds", 1)
ROUNDED = 16  # bytes that digits of the header may differ by


@pytest.mark.slow
def test_a_plan_says_the_bytes_of_the_run_and_keeps_nothing(tmp_path, tiny_run, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "plan.json"
    options = (*TINY, *STUDENTS, "--baseline", "random")
    done = call("plan", "--data", "digits", *options, "--json", file)
    assert done.code == 0, done.err
    assert {path.name for path in tmp_path.iterdir()} <= {"plan.json", "cache"}
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if path.parent.name in ("networks", "statistics")]
    plan = json.loads(file.read_text())
    size = (tiny_run / "condensed.safetensors").stat().st_size
    assert plan["bytes"] == pytest.approx(size, abs=ROUNDED)
    assert f"file: {plan['bytes']:,} bytes" in done.out
    assert (plan["classes"], plan["images"]) == (10, 1438)
    seconds = plan["seconds"]
    for phase in ("start", "networks", "bank", "condensing", "finish", "evaluation"):
        assert 0.0 < seconds[phase] < 600.0, phase
    assert seconds["experts"] == seconds["labels"] == 0.0
    assert list(plan["memory"]) == list(plan["device_memory"]) == ["condensing", "evaluation"]
    assert all(1e8 < peak < 4e9 for peak in plan["memory"].values())
    assert set(plan["device_memory"].values()) == {0} or plan["runtime"].startswith("cuda")


@pytest.mark.slow
def test_data_that_are_not_at_hand(tmp_path):
    file = tmp_path / "plan.json"
    size = ("--images", 400, "--num-classes", 4, "--image-size", 8)
    done = call("plan", *size, *TINY, *STUDENTS, "--json", file)
    assert done.code == 0, done.err
    plan = json.loads(file.read_text())
    assert (plan["images"], plan["classes"], plan["image_size"]) == (400, 4, 8)
    assert plan["bytes"] <= 8000
    assert "not counted: the time to read and decode images" in done.out


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--set", "privacy.epsilon=1", "--set", "privacy.delta=1e-6"),
        ("--set", "networks.mixture=[vgg11]", "--objective", "robust"),
        (
            *("--preset", "accurate", "--set", "trajectory.steps=20"),
            *("--set", "trajectory.parts=1", "--set", "trajectory.span=1"),
        ),
    ],
)
def test_data_without_a_validation_split_are_planned_without_evaluation(tmp_path, options):
    data = write_tree(tmp_path / "tree", pictures(40))
    before = sorted(Path(data).rglob("*"))
    small = ("--bytes", "60KB", "--steps", 40, "--set", "networks.width=8")
    done = call("plan", "--data", data, *small, *options, "--quiet")
    assert done.code == 0, done.err
    assert "note: not counted: an evaluation" in done.out
    assert "memory, evaluation" not in done.out
    assert sorted(Path(data).rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give one of both"),
        (("--data", "digits", "--images", 9, "--num-classes", 3), "give one of both"),
        (("--images", 9), "--images and --num-classes go together"),
        (("--images", 2, "--num-classes", 3), "no fewer images than 3"),
        (("--data", "digits", "--epochs", 0), "epochs"),
        (("--data", "digits", "--json", "/nowhere/plan.json"), "does not exist"),
        # what follows is refused by the process of the calibration, as by a run
        (("--data", "nowhere"), "nowhere does not exist"),
        (("--data", "digits", "--bytes", 300), "too small for 1 sample"),
        (("--images", 90, "--num-classes", 3), "say with --image-size"),
    ],
)
def test_what_cannot_be_planned_is_refused(options, words):
    refused(call("plan", *options, "--quiet"), words)
