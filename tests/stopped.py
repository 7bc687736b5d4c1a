"""Runs the program, and sends it a signal when it comes to a place.

    python stopped.py SIGNAL PLACE ARGUMENTS...

PLACE is `write NAME`, when the content of a file of that name is on the disk but the name is not
yet, or `PART N`, when N units of a part of the job are reported as done.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from unittest import mock

from gencond_fast.cli import condense as cli_condense
from gencond_fast.cli import main as cli
from gencond_fast.system import files
from gencond_fast.system.progress import Reporter


class StoppingReporter(Reporter):
    """Sends a signal to this process at one place of the job."""

    def __init__(self, number: int, part: str, at: int) -> None:
        self._number, self._part, self._at = number, part, at

    @contextmanager
    def phase(self, name, total, done=0):
        yield _Part(self, name, done)

    def reach(self, name: str, done: int) -> None:
        if name == self._part and done == self._at:
            os.kill(os.getpid(), self._number)


class _Part:
    def __init__(self, reporter: StoppingReporter, name: str, done: int) -> None:
        self._reporter, self._name, self._done = reporter, name, done

    def advance(self, amount=1, values=None):
        self._done += amount
        self._reporter.reach(self._name, self._done)


def run(number: int, place: str, arguments: list[str]) -> None:
    part, at = place.rsplit(" ", 1)
    sync = files._sync

    def sync_and_stop(path):
        sync(path)
        if part == "write" and path.name.startswith(f".{at}."):
            os.kill(os.getpid(), number)

    reporter = StoppingReporter(number, part, 0 if part == "write" else int(at))
    with (
        mock.patch.object(files, "_sync", sync_and_stop),
        mock.patch.object(cli_condense, "make_reporter", return_value=reporter),
    ):
        cli.main(arguments)


if __name__ == "__main__":
    run(signal.Signals[sys.argv[1]], sys.argv[2], sys.argv[3:])
