"""Runs the program as one of torchrun's ranks, and lets something happen before one of its steps.

    python ranked_steps.py WHAT RANK STEP ARGUMENTS...

WHAT is `kill` (of that rank, the first time), `fail`, `terminate` (of torchrun) or `none`.
"""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

from gencond_fast.cli import main as cli
from gencond_fast.condensation.loop import Loop
from gencond_fast.errors import InputError


def befall(what: str) -> None:
    if what == "kill" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise InputError("picture.png cannot be decoded: repair it")
    if what == "terminate":
        os.kill(os.getppid(), signal.SIGTERM)


def run(what: str, rank: int, step: int, arguments: list[str]) -> None:
    original, own = Loop._step, int(os.environ["RANK"])

    def watched(self, stage, number):
        if (own, number + 1) == (rank, step):
            befall(what)
        return original(self, stage, number)

    with mock.patch.object(Loop, "_step", watched):
        cli.main(arguments)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
