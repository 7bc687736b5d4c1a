"""Runs the program as one of torchrun's ranks, and lets one of them come to grief on the way.

    python ranked.py WHAT RANK BATCHES ARGUMENTS...

WHAT is `kill`, `fail` or `none`; it befalls RANK after so many batches of its share.
"""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

from gencond_fast.cli import main as cli
from gencond_fast.condensation import measure
from gencond_fast.errors import InputError

READ = os.environ.get("READ_BY_RANKS")


def befall(what: str) -> None:
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise InputError("picture.png cannot be decoded: repair it")


def run(what: str, rank: int, batches: int, arguments: list[str]) -> None:
    stream, own = measure.stream, int(os.environ["RANK"])

    def watched(*given, **options):
        for number, batch in enumerate(stream(*given, **options)):
            if (own, number) == (rank, batches):
                befall(what)
            if READ:
                with open(READ, "a") as file:
                    file.write("".join(f"{own} {row}\n" for row in batch.indices.tolist()))
            yield batch

    with (
        mock.patch.object(measure, "stream", watched),
        mock.patch.object(measure, "_BATCH", 100),
        mock.patch.object(measure, "_SAVE_EVERY", 0.0),
        mock.patch.object(measure, "_SAVE_SHARE", float("inf")),
    ):
        cli.main(arguments)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
