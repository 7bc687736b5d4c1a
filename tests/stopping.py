"""Runs that are stopped on the way, and what they left."""

from __future__ import annotations

import contextlib
import io
import signal

import stopped
from command_line import TINY, Outcome, call, metrics

STEPWISE = (*TINY, "--set", "training.checkpoint_every=10", "--set", "training.log_every=1")
PRODUCT = "condensed.safetensors"


def arguments(run, data="digits", more=()):
    return ["condense", "--data", str(data), "--out", str(run), *STEPWISE, *map(str, more)]


def condense(run, data="digits", more=()):
    return call(*arguments(run, data, more))


def stop(number, place, run, data="digits", more=()):
    """In this process: a run that gets a signal at a place, as it ends."""
    before = signal.getsignal(signal.SIGTERM)
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            stopped.run(number, place, arguments(run, data, more))
    except SystemExit as end:
        return Outcome(end.code, "", err.getvalue())
    finally:
        signal.signal(signal.SIGTERM, before)
    raise AssertionError("the program did not end")


def checkpoints(run):
    folder = run / "checkpoint"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def without_speed(run):
    return [
        {key: value for key, value in line.items() if key != "images_per_second"}
        for line in metrics(run)
    ]
