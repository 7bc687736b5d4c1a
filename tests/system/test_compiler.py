"""A compiler that cannot build is found out before the first step, and said."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gencond_fast.errors import InputError
from gencond_fast.system.compiler import compiler_obstacle
from gencond_fast.system.runtime import choose_runtime

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def stand_in(folder: Path, script: str) -> Path:
    """A program called g++."""
    path = folder / "g++"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_compiler
def test_a_compiler_that_can(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    assert compiler_obstacle() is None


SCRIPTS = {
    # as on a machine without python3-dev
    'a=(); for x in "$@"; do case "$x" in -I*) ;; *) a+=("$x");; esac; done\n'
    'exec /usr/bin/g++ "${a[@]}"': "does not find Python.h (install python3-dev)",
    "echo 'fatal error: no cc1plus'; echo 'error: cannot execute cc1plus' >&2; exit 1": "cc1plus",
    "exit 1": "no word why",
    "kill -9 $$": "does not build a library",
}


@needs_compiler
@pytest.mark.parametrize(("script", "reason"), SCRIPTS.items(), ids=SCRIPTS.values())
def test_a_compiler_that_cannot_build(tmp_path, monkeypatch, script, reason):
    monkeypatch.setenv("CXX", str(stand_in(tmp_path, script)))
    assert reason in (compiler_obstacle() or "")
    told: list[str] = []
    runtime = choose_runtime("cpu", "float32", "auto", 64, told.append)
    assert not runtime.compiled
    (line,) = told
    assert "not compiled, which is slower" in line
    assert reason in line
    with pytest.raises(InputError, match="option 'compile' is on, but .*set compile=off"):
        choose_runtime("cpu", "float32", "on", 64)


def test_no_compiler_at_all(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiler_obstacle() == "there is no C++ compiler (no-such-compiler)"


def test_what_is_not_compiled_needs_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    told: list[str] = []
    choose_runtime("cpu", "float32", "off", 64, told.append)
    choose_runtime("cpu", "float32", "auto", 8, told.append)
    assert told == []


def test_a_compiler_that_does_not_start(tmp_path, monkeypatch):
    path = stand_in(tmp_path, "")
    path.write_bytes(b"\x7fELF of another machine")
    monkeypatch.setenv("CXX", os.fspath(path))
    assert compiler_obstacle() is not None


def test_a_locale_in_which_pytorch_cannot_read_its_files():
    words = "from gencond_fast.system.compiler import compiler_obstacle as o; print(o())"
    plain = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    for utf8, found in (("0", True), ("1", False)):
        environment = plain | {"PYTHONUTF8": utf8}
        done = subprocess.run(
            [sys.executable, "-c", words], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert ("ASCII locale (set PYTHONUTF8=1)" in done.stdout) == found
