"""The program is called gencond-fast; the spelling of earlier versions starts the same one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gencond_fast as gf

PROGRAM = Path(sys.executable).with_name("gencond-fast")


@pytest.mark.skipif(not PROGRAM.exists(), reason="the package is installed without its program")
@pytest.mark.parametrize("name", ["gencond-fast", "gencond_fast"])
def test_both_spellings_are_the_same_program(name: str) -> None:
    line = [PROGRAM.with_name(name), "--version"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout == f"gencond-fast, version {gf.__version__}\n"
    refusal = subprocess.run([line[0], "condense"], capture_output=True, text=True, check=False)
    assert refusal.returncode == 2
    assert "Usage: gencond-fast condense" in refusal.stderr
