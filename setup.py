"""Build the C++ extension with CMake, and install `kernels/` as `gencond_fast.kernels`.

GENCOND_EXT=auto (the default) goes on without the extension when it cannot be built, `on` fails
then, and `off` does not try. Either way `gencond_fast/_build.json` records what came of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent
MODE = os.environ.get("GENCOND_EXT", "auto")
RECORD = "_build.json"


class CMakeExtension(Extension):
    """An extension whose sources CMakeLists.txt knows."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[], optional=MODE == "auto")


class CMakeBuild(build_ext):
    """Runs CMake for the extension and leaves a record of the outcome beside it."""

    def build_extension(self, ext: Extension) -> None:
        """Build `ext`; a failure of any kind is recorded and raised as CompileError."""
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # an extension of an earlier build must not pass for the result of this one
        target.unlink(missing_ok=True)
        record = target.with_name(RECORD)
        try:
            built_for = self._run_cmake(target)
        except Exception as error:
            _write_record(record, {"failure": str(error)})
            raise CompileError(f"the C++ extension was not built: {error}") from error
        _write_record(record, built_for)

    def copy_extensions_to_source(self) -> None:
        """Copy for an editable install: the record goes along, and an old extension goes away."""
        for ext in self.extensions:
            source = Path(self.build_lib, *ext.name.split(".")).with_name(RECORD)
            package = ROOT.joinpath(*ext.name.split(".")[:-1])
            shutil.copyfile(source, package / RECORD)
            (package / Path(self.get_ext_filename(ext.name)).name).unlink(missing_ok=True)
        super().copy_extensions_to_source()

    def _run_cmake(self, target: Path) -> dict[str, str]:
        import pybind11
        import torch

        versions = {
            "torch": str(torch.__version__),
            "cuda": str(torch.version.cuda),
            "python": platform.python_version(),
        }
        packages = [torch.__file__, pybind11.__file__]
        build = Path(self.build_temp).resolve() / _key([*versions.values(), *packages])
        cmake = shutil.which("cmake")
        if cmake is None:
            raise RuntimeError("cmake was not found: pip install cmake ninja.")
        configure = [
            *(cmake, "-S", str(ROOT), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DGENCOND_TORCH_DIR={Path(torch.__file__).parent}",
            f"-DGENCOND_TORCH_VERSION={torch.__version__}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DGENCOND_CUDA={'ON' if torch.version.cuda and shutil.which('nvcc') else 'OFF'}",
            *(["-GNinja"] if shutil.which("ninja") else []),
        ]
        _run("cmake could not configure it", configure)
        _run("it did not compile", [cmake, "--build", str(build), "--parallel", str(self._jobs())])
        if not target.exists():
            raise RuntimeError(f"the build ended without {target.name}.")
        return versions

    def _jobs(self) -> int:
        return int(self.parallel or os.environ.get("MAX_JOBS") or os.cpu_count() or 1)


def _key(parts: list[str]) -> str:
    """A name for the build tree, so that no tree outlives what it was configured with."""
    compiler = [os.environ.get(name, "") for name in ("CXX", "CXXFLAGS")]
    return hashlib.sha256("\0".join([*parts, *compiler, sys.executable]).encode()).hexdigest()[:16]


def _run(failure: str, command: list[str]) -> None:
    """Run a command, show its output, and raise with the part that tells what went wrong."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        first = next((i for i, line in enumerate(lines) if "error" in line.lower()), -3)
        told = [line for line in lines[first:] if not line.startswith("CMake Error at")]
        raise RuntimeError(f"{failure}: {' '.join(told[:3])}")


def _write_record(path: Path, record: dict[str, str]) -> None:
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if MODE not in ("auto", "on", "off"):
    raise SystemExit(f"GENCOND_EXT must be auto, on or off, not {MODE!r}.")

setup(
    packages=[*find_packages(include=["gencond_fast*"]), "gencond_fast.kernels"],
    package_dir={"gencond_fast": "gencond_fast", "gencond_fast.kernels": "kernels"},
    ext_modules=[] if MODE == "off" else [CMakeExtension("gencond_fast._C")],
    cmdclass={"build_ext": CMakeBuild},
)
