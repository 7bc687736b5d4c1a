"""Calls in a process of their own, and a reporter that notes how long everything takes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch

from gencond_fast.distributed.failure import packed_error, unpacked_error
from gencond_fast.errors import InputError, RunError
from gencond_fast.system.interrupt import Terminated
from gencond_fast.system.progress import Phase, Reporter

T = TypeVar("T")

_PATIENCE = 10.0  # seconds that a process has to end what it has started
_SERVE = "import sys; from gencond_fast.planning.recording import serve; serve(sys.argv[1])"


def in_own_process(folder: Path, function: Callable[..., T], *arguments: Any) -> T:
    """What a function of a module returns; memory and environment are those of a new process.

    Args:
        folder: where arguments and result are exchanged.
        function: called with `folder`, `arguments` and the time of this call by `time.monotonic`,
            a clock that all processes of a machine share.
        arguments: picklable.

    Raises:
        InputError, OSError, RunError: as the function does; RunError also where the process died.
    """
    exchange = folder / "call.pickle"
    exchange.write_bytes(pickle.dumps((function, (folder, *arguments, time.monotonic()))))
    command = [sys.executable, "-c", _SERVE, str(exchange)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if _finish(subprocess.Popen(command, env=environment)):
        raise RunError(
            "the process of the calibration died, as it does when memory runs out: plan with fewer "
            "images in a step (training.batch_per_class, training.class_batch)"
        )
    value, error = pickle.loads(exchange.read_bytes())  # what our own process has written
    if error is not None:
        raise unpacked_error(error)
    found: T = value
    return found


def _finish(process: subprocess.Popen[bytes]) -> int:
    """Its exit code. Where this process is asked to stop, so is that one, which ends its own."""
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def serve(exchange: str) -> None:
    """The other side of `in_own_process`; says nothing where it is asked to stop."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        _serve(exchange)
    except (Terminated, KeyboardInterrupt):
        sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # it is stopping: once is enough
    raise Terminated


def _serve(exchange: str) -> None:
    function, arguments = pickle.loads(Path(exchange).read_bytes())
    answer: tuple[Any, dict[str, Any] | None]
    try:
        answer = (function(*arguments), None)
    except (InputError, OSError, RunError) as error:
        answer = (None, packed_error(error, 0))
    Path(exchange).write_bytes(pickle.dumps(answer))


@dataclass(frozen=True)
class Span:
    """One part of a run, as it calls it: start, end, and the units and seconds of each step."""

    name: str
    start: float
    end: float
    steps: list[tuple[int, float]]

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.end - self.start


class RecordingReporter(Reporter):
    """Keeps a span of each part of a run, and says nothing."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Phase]:
        """See `Reporter.phase`."""
        start = time.monotonic()
        steps = Steps(start)
        yield steps
        self.spans.append(Span(name, start, time.monotonic(), steps.found))


class Steps:
    """The units of each step and its seconds, of work that began at `last`."""

    def __init__(self, last: float) -> None:
        self.found: list[tuple[int, float]] = []
        self._last = last

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Task.advance`; waits for the GPU, so that its time is counted as well."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = time.monotonic()
        if amount:
            self.found.append((amount, now - self._last))
            self._last = now
