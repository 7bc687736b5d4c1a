"""Commands that are watched, and killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from benchmarks.processes import descendants
from benchmarks.watched import Finished, Line, watch
from tests.robustness.thousand import at

BUSY = """
import subprocess, sys, time
held = bytearray(200 * 2**20)
print("read 1/4", flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(0.5)
print("read 2/4  images/s 7", flush=True)
if len(sys.argv) > 1:
    time.sleep(600)
print("read 4/4", flush=True)
child.kill()
sys.exit(3)
"""


def test_memory_and_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    done = watch(
        ["sh", "-c", f"'{sys.executable}' '{tmp_path}/busy.py'; exit $?"], tmp_path / "log"
    )
    assert done.code == 3
    assert [line.text for line in done.lines] == ["read 1/4", "read 2/4  images/s 7", "read 4/4"]
    assert 200 * 2**20 < done.peaks[0] < 300 * 2**20
    assert (tmp_path / "log").read_text().count("\n") == 3
    assert 0 < done.parts()["read"] <= done.seconds


def test_a_kill_hits_all_at_the_line(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    command = [sys.executable, str(tmp_path / "busy.py"), "long"]
    done = watch(command, tmp_path / "log", at("read", 0.5))  # a child alive would hold the pipe
    assert done.code == -signal.SIGKILL
    assert done.lines[-1].progress == ("read", 2, 4)
    assert "read" not in done.parts()


def test_parts_end_where_the_next_begin() -> None:
    said = [(1.0, "read 1/2"), (3.0, "read 2/2"), (4.0, "so far"), (9.0, "learn 3/3  loss 1")]
    done = Finished(0, 10.0, [Line(*each) for each in said], [])
    assert done.parts() == {"read": 3.0, "learn": 6.0}


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("real statistics 12800/100000", ("real statistics", 12800, 100000)),
        ("3 of 3 · matching 10/40  mean 0.1  images/s 96", ("matching", 10, 40)),
        ("resuming at step 10", None),
        ("1/2", None),
    ],
)
def test_lines_of_progress(text: str, progress: tuple[str, int, int] | None) -> None:
    assert Line(0.0, text).progress == progress


def test_nobody_is_below_a_process_that_is_gone() -> None:
    assert descendants(2**22 + 1) == []
