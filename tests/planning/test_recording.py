"""Calls in processes of their own, and spans of what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gencond_fast.data.classes import MissingClass
from gencond_fast.data.readers.forked import forked
from gencond_fast.errors import InputError, RunError
from gencond_fast.planning.recording import RecordingReporter, in_own_process


def _answering(folder: Path, word: str, began: float) -> tuple[str, int, float]:
    return word, os.getpid(), time.monotonic() - began


def _refusing(folder: Path, began: float) -> None:
    raise MissingClass("spoon", "there is no spoon: bend it")  # which cannot be pickled


def _full(folder: Path, began: float) -> None:
    raise OSError(28, "No space left on device", "/some/file")


def _dying(folder: Path, began: float) -> None:
    os._exit(9)


def test_a_call_returns_from_another_process(tmp_path):
    word, pid, seconds = in_own_process(tmp_path, _answering, "yes")
    assert (word, pid == os.getpid()) == ("yes", False)
    assert 0.0 < seconds < 300.0  # its start is measured by the same clock


def test_errors_come_back_as_they_are(tmp_path):
    with pytest.raises(InputError, match="there is no spoon: bend it"):
        in_own_process(tmp_path, _refusing)
    with pytest.raises(OSError, match="No space left") as told:
        in_own_process(tmp_path, _full)
    assert (told.value.errno, told.value.filename) == (28, "/some/file")
    with pytest.raises(RunError, match="died"):
        in_own_process(tmp_path, _dying)


def test_a_reporter_notes_times_and_units(monkeypatch):
    clock = iter([10.0, 12.0, 13.0, 15.0, 16.0])
    monkeypatch.setattr("gencond_fast.planning.recording.time.monotonic", lambda: next(clock))
    reporter = RecordingReporter()
    with reporter.phase("work", 7) as progress:
        progress.advance(4, {"loss": 1.0})
        progress.advance(0, {"images": 7.0})
        progress.advance(3)
    (span,) = reporter.spans
    assert (span.name, span.start, span.end, span.seconds) == ("work", 10.0, 16.0, 6.0)
    assert span.steps == [(4, 2.0), (3, 3.0)]


def _working(folder: Path, place: str, began: float) -> None:
    with forked(1, None) as pool:
        pool.submit(os.getpid).result()
        Path(place).write_text(str(os.getpid()))
        while True:
            pool.submit(bytes, 2**22).result()


_PLANNING = """
import signal, sys
from pathlib import Path
from test_recording import _working
from gencond_fast.cli.main import _terminate
from gencond_fast.planning.recording import in_own_process
from gencond_fast.system.interrupt import Terminated

signal.signal(signal.SIGTERM, _terminate)
signal.signal(signal.SIGINT, signal.default_int_handler)  # else a job in the background ignores it
try:
    in_own_process(Path(sys.argv[1]), _working, sys.argv[2])
except (Terminated, KeyboardInterrupt):
    sys.exit(143)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("whole_group", [False, True])
def test_asked_to_stop_it_ends_everything_without_a_word(tmp_path, number, whole_group):
    place = tmp_path / "pid"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", _PLANNING, str(tmp_path), str(place)],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
        text=True,
    )
    try:
        limit = time.monotonic() + 120
        while not place.exists() or not place.read_text():
            assert time.monotonic() < limit
            time.sleep(0.05)
        (os.killpg if whole_group else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):  # whatever is left where it fails
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (143, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text()), 0)
