"""The example of the losses runs as it stands, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "losses.py"


def test_an_embedding_learns_from_the_losses():
    command = [sys.executable, EXAMPLE, "--steps", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (float(share) for share in re.findall(r"(\d+\.\d\d) %", done.stdout))
    assert after > 85
    assert after > before
