"""A command in processes of its own: what it says and when, and the memory of each process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import descendants
from gencond_fast.system.memory import peak_memory

_INTERVAL = 0.2  # seconds
_PROGRESS = re.compile(r"^(?:\d+ of \d+ · )?(.+) (\d+)/(\d+)(?:  |$)")


class Line(NamedTuple):
    """Something said, so many seconds after the start."""

    seconds: float
    text: str

    @property
    def progress(self) -> tuple[str, int, int] | None:
        """Part of the job, how much of it is done, and how much there is; None for other lines."""
        found = _PROGRESS.match(self.text)
        return (found[1], int(found[2]), int(found[3])) if found else None


class Finished(NamedTuple):
    """What was seen of a command.

    Attributes:
        code: exit code, negative for the number of a signal.
        seconds: from start to end.
        lines: on standard output and standard error.
        peaks: most resident bytes of each process below the command, largest first.
    """

    code: int
    seconds: float
    lines: list[Line]
    peaks: list[int]

    def parts(self) -> dict[str, float]:
        """Seconds from the end of the part before, or the start, to the end of each part."""
        ends: dict[str, float] = {}
        for line in self.lines:
            if line.progress and line.progress[1] >= line.progress[2]:
                ends.setdefault(line.progress[0], line.seconds)
        edges = [0.0, *ends.values()]
        return {
            name: after - before
            for name, (before, after) in zip(ends, pairwise(edges), strict=True)
        }


def watch(
    command: Sequence[str],
    log: Path,
    kill_at: Callable[[Line], bool] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Runs a command to its end, or until a line of it says that SIGKILL shall hit all of it.

    Args:
        command: program and arguments.
        log: file that what it says is added to.
        kill_at: told of every line.
        environment: variables beside those of this process.
    """
    started = time.monotonic()
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | (environment or {}),
        start_new_session=True,  # hit by one signal, and no signal of ours hits it
    )
    peaks: dict[int, int] = {}
    ended = threading.Event()

    def measure() -> None:
        while not ended.wait(_INTERVAL):
            for pid in descendants(child.pid):
                with suppress(OSError):  # it has ended
                    peaks[pid] = peak_memory(pid)

    watcher = threading.Thread(target=measure, daemon=True)
    watcher.start()
    lines: list[Line] = []
    assert child.stdout is not None
    with log.open("a", encoding="utf-8") as file:
        for text in child.stdout:
            lines.append(Line(time.monotonic() - started, text.rstrip()))
            file.write(f"{lines[-1].seconds:9.1f}  {lines[-1].text}\n")
            file.flush()
            if kill_at and kill_at(lines[-1]):
                _kill_all(child.pid)
    code = child.wait()
    ended.set()
    watcher.join()
    return Finished(code, time.monotonic() - started, lines, sorted(peaks.values(), reverse=True))


def _kill_all(pid: int) -> None:
    """SIGKILL to a process and all below it at once, so that none can clear up after another."""
    for each in (*descendants(pid), pid):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:  # gone meanwhile
            continue
