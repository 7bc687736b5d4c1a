"""The example runs as it stands, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_network_learns_from_a_condensed_file(tiny_run):
    done = run(tiny_run, "--epochs", 5)
    assert done.returncode == 0, done.stderr
    said = re.fullmatch(r"(\d+\.\d\d) % of 359 test images\n", done.stdout)
    assert said is not None, done.stdout
    assert float(said[1]) > 60


def test_it_says_what_it_needs():
    done = run()
    assert done.returncode == 2
    assert "the following arguments are required: run" in done.stderr
