"""The C++ tests, built with AddressSanitizer and UndefinedBehaviorSanitizer and run by ctest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SANITIZERS = "address,undefined"
PROGRAMS = ("class_moments", "class_updates", "channel_moments", "class_centres", "pair_loss")
COMPILER = os.environ.get("CXX", "c++")

# cmake, ctest and ninja come with the development environment, which need not be activated
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"PATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def succeed(*command: str | Path) -> str:
    done = run(*command)
    assert done.returncode == 0, f"{done.args}\n{done.stdout[-20_000:]}"
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder; the test is skipped where a tool is missing."""
    for tool in ("cmake", "ctest", COMPILER):
        if shutil.which(tool, path=PATH) is None:
            pytest.skip(f"needs {tool}")
    source = tmp_path / "empty.cpp"
    source.write_text("int main() { return 0; }\n")
    flags = (f"-fsanitize={SANITIZERS}", "-fopenmp")
    if run(COMPILER, *flags, source, "-o", tmp_path / "empty").returncode != 0:
        pytest.skip(f"{COMPILER} has no libraries for {SANITIZERS}")
    return tmp_path


@pytest.mark.slow
def test_no_sanitizer_reports(folder: Path) -> None:
    pybind11 = pytest.importorskip("pybind11")
    ninja = shutil.which("ninja", path=PATH)
    build = folder / "build"
    succeed(
        *("cmake", "-S", ROOT, "-B", build, "-DGENCOND_TESTS=ON"),
        f"-DGENCOND_SANITIZE={SANITIZERS}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DGENCOND_TORCH_DIR={Path(torch.__file__).parent}",
        *(["-GNinja"] if ninja else []),
    )
    jobs = str(os.cpu_count() or 1)
    succeed("cmake", "--build", build, "--target", "gencond_tests", "--parallel", jobs)
    shown = succeed(
        *("ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error", "-j", jobs)
    )
    for name in (*PROGRAMS, "sees_overrun", "sees_overflow"):
        assert f" {name} ." in shown, shown
