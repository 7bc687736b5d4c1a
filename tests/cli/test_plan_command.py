"""`plan`: what it promises is what a run then takes, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_line import TINY, call, refused
from image_builders import pictures, write_tree

STUDENTS = ("--epochs", 2, "--seeds", 1)
ROUNDED = 16  # bytes that digits of the header may differ by


@pytest.fixture(scope="module")
def planned(tmp_path_factory, _own_cache) -> tuple[dict, str]:
    """A plan of the run that `tiny_run` is, and what was printed."""
    folder = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", None)
        patch.setenv("GENCOND_FAST_CACHE", str(folder / "cache"))
        file = folder / "plan.json"
        options = (*TINY, *STUDENTS, "--baseline", "random", "--devices", "1,2,64")
        done = call("plan", "--data", "digits", *options, "--json", file)
    assert done.code == 0, done.err
    assert {path.name for path in folder.iterdir()} <= {"plan.json", "cache"}
    kept = [path for path in (folder / "cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if path.parent.name in ("networks", "statistics")]
    return json.loads(file.read_text()), done.out


@pytest.mark.slow
def test_bytes_are_those_of_the_run(planned, tiny_run):
    plan, out = planned
    size = (tiny_run / "condensed.safetensors").stat().st_size
    assert plan["bytes"] == pytest.approx(size, abs=ROUNDED)
    assert f"file: {plan['bytes']:,} bytes" in out
    assert (plan["classes"], plan["images"]) == (10, 1438)
    assert plan["calibrated_classes"] == 10


@pytest.mark.slow
def test_times_and_memory_are_those_of_a_small_run(planned):
    plan, out = planned
    one, two, many = plan["forecasts"]
    assert [each["devices"] for each in plan["forecasts"]] == [1, 2, 64]
    assert many["refused"].startswith("a step has 10 classes, too few for 64 ranks")
    assert "64 devices are refused: a step has 10 classes" in out
    for phase in ("start", "networks", "bank", "condensing", "finish", "evaluation"):
        assert 0.0 < one["phases"][phase] < 600.0, phase
        assert two["phases"][phase] <= 1.01 * one["phases"][phase], phase
    assert one["phases"]["experts"] == one["phases"]["labels"] == 0.0
    for peak in plan["memory"].values():
        assert 1e8 < peak < 4e9
    assert set(plan["device_memory"].values()) == {0} or plan["runtime"].startswith("cuda")


@pytest.mark.slow
def test_data_that_are_not_at_hand(tmp_path):
    file = tmp_path / "plan.json"
    size = ("--images", 400, "--num-classes", 4, "--image-size", 8)
    done = call("plan", *size, *TINY, *STUDENTS, "--devices", 1, "--json", file)
    assert done.code == 0, done.err
    plan = json.loads(file.read_text())
    assert (plan["images"], plan["classes"], plan["image_size"]) == (400, 4, 8)
    assert plan["bytes"] <= 8000
    assert "the time to read and decode them is left out" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give one of both"),
        (("--data", "digits", "--images", 9, "--num-classes", 3), "give one of both"),
        (("--images", 9), "images and num_classes go together"),
        (("--images", 2, "--num-classes", 3), "fewer images than classes"),
        (("--data", "digits", "--devices", "1,many"), "no list of numbers"),
        (("--data", "digits", "--devices", "0"), "devices"),
        (("--data", "digits", "--link", "fast"), "is no amount of bytes"),
        (("--data", "digits", "--epochs", 0), "epochs"),
        (("--data", "digits", "--set", "networks.mixture=[vit]"), "networks of a mixture cost"),
        (("--data", "digits", "--json", "/nowhere/plan.json"), "does not exist"),
        (
            ("--data", "digits", "--set", "privacy.epsilon=1", "--set", "privacy.delta=1e-6"),
            "private run",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(options, words):
    refused(call("plan", *options, "--quiet"), words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data", "nowhere"), "nowhere does not exist"),
        (("--data", "digits", "--bytes", 300), "too small for 1 sample"),
        (("--images", 90, "--num-classes", 3), "say with --image-size"),
    ],
)
def test_the_calibration_refuses_what_a_run_would(options, words):
    refused(call("plan", *options, "--quiet"), words)


@pytest.mark.slow
def test_data_without_a_validation_split_are_planned_without_evaluation(tmp_path):
    data = write_tree(tmp_path / "tree", pictures(6))
    before = sorted(path for path in Path(data).rglob("*"))
    done = call("plan", "--data", data, *TINY, "--devices", 1, "--quiet")
    assert done.code == 0, done.err
    assert "note: the data have no validation split" in done.out
    assert "memory, evaluation" not in done.out
    assert sorted(path for path in Path(data).rglob("*")) == before
    assert (
        os.environ.get("TORCHINDUCTOR_CACHE_DIR") is None
        or "gencond-plan" not in os.environ["TORCHINDUCTOR_CACHE_DIR"]
    )
