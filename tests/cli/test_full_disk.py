"""A full disk: a sentence, what was there is intact, and the same command continues."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import resource
import shlex
import subprocess
from contextlib import contextmanager

import pytest
from command_line import TINY, Outcome, call, command, metrics, refused, tree

STEPWISE = (*TINY, "--set", "training.checkpoint_every=10", "--set", "training.log_every=1")


def condense(run):
    return call("condense", "--data", "digits", "--out", run, *STEPWISE, "--quiet")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _own_cache):
    """A run that nothing went wrong in."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert condense(run).code == 0
    return run


@contextmanager
def disk_full_at(name):
    """The disk is full when a file called so is brought to it."""
    fsync, opened = os.fsync, pathlib.Path.open

    def failing_fsync(handle):
        if name in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    def failing_open(path, mode="r", *arguments, **options):
        full = path.name == name and "a" in mode
        return opened(pathlib.Path("/dev/full") if full else path, mode, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", failing_fsync)
        patch.setattr(pathlib.Path, "open", failing_open)
        yield


def hidden(root):
    return list(root.rglob(".*"))


PLACES = {
    "config.yaml": [],
    "environment.json": [],
    "metrics.jsonl": [],
    "step-00000010.pt": [],
    "step-00000030.pt": ["step-00000010.pt", "step-00000020.pt"],
    "samples.png": ["step-00000030.pt", "step-00000040.pt"],
    "condensed.safetensors": ["step-00000030.pt", "step-00000040.pt"],
}


@pytest.mark.parametrize("name", PLACES)
def test_a_full_disk_in_a_run(whole, tmp_path, name):
    run = tmp_path / "run"
    with disk_full_at(name):
        failed = condense(run)
    refused(failed, "No space left on device")
    assert str(tmp_path) in failed.err or name == "metrics.jsonl"
    assert not hidden(tmp_path)
    checkpoints = run / "checkpoint"
    kept = sorted(p.name for p in checkpoints.iterdir()) if checkpoints.exists() else []
    assert kept == PLACES[name]
    assert not (run / "condensed.safetensors").exists()

    assert condense(run).code == 0
    product = "condensed.safetensors"
    assert (run / product).read_bytes() == (whole / product).read_bytes()
    assert [line["step"] for line in metrics(run)] == list(range(1, 41))


@pytest.mark.parametrize("kind", ["networks", "statistics"])
def test_a_full_disk_in_the_cache(tmp_path, monkeypatch, kind):
    cache = tmp_path / "cache"
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(cache))
    with disk_full_at(f"/{kind}/"):
        refused(condense(tmp_path / "run"), f"{cache}/{kind}/")
    assert not list((cache / kind).iterdir())
    assert condense(tmp_path / "run").code == 0
    assert list((cache / kind).iterdir())


def test_a_write_cut_off_in_the_middle(whole, tmp_path):
    """Files of a real run may not grow over 50 kB, so that the checkpoint breaks off."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        failed = condense(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused(failed, "step-00000010.pt (File too large)")
    assert not hidden(tmp_path)
    assert condense(tmp_path / "run").code == 0


def test_a_full_disk_costs_an_evaluation_its_file_alone(whole, tmp_path):
    file = tmp_path / "result.json"
    file.write_text("the result before")
    options = ("--data", "digits", "--seeds", 1, "--epochs", 1, "--quiet")
    with disk_full_at("result.json"):
        failed = call("evaluate", whole, *options, "--json", file)
    refused(failed, f"{file} (No space left on device)")
    assert "stored" in failed.out
    assert tree(tmp_path) == {"result.json": b"the result before"}


@pytest.mark.parametrize("stdout", ["/dev/full", "ascii", "closed", "pipe"])
def test_output_that_fails_costs_an_evaluation_no_file(whole, tmp_path, stdout):
    file = tmp_path / "result.json"
    options = ("--data", "digits", "--seeds", 2, "--epochs", 1, "--model", "convnet3@4")
    arguments = command("evaluate", whole, *options, "--quiet", "--json", file)
    environment = os.environ | ({"PYTHONIOENCODING": "ascii"} if stdout == "ascii" else {})
    line = (
        f"{shlex.join(arguments)} "
        + {
            "/dev/full": "> /dev/full",
            "ascii": "",
            "closed": ">&-",
            "pipe": "| true",
        }[stdout]
    )
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment, check=False
    )
    assert json.loads(file.read_text())["rows"][0]["accuracies"]
    assert "Traceback" not in done.stderr
    assert ("+-" in done.stdout) == (stdout == "ascii")


@pytest.mark.parametrize("kind", ["imagefolder", "npz", "pt", "webdataset", "parquet", "grid"])
def test_a_full_disk_leaves_no_half_of_an_export(whole, tmp_path, kind):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, limit[1]))
    try:
        failed = call("sample", whole, "--out", tmp_path / "out", "--format", kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    refused(failed, "File too large")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_output_that_cannot_be_written_ends_in_a_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("info"), stdout=full, stderr=subprocess.PIPE, text=True)
    refused(Outcome(done.returncode, "", done.stderr), "No space left on device")
