"""Commands on the pretended CUDA device, whose C++ is built once for each version of PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).parent
SOURCE = HERE / "backend.cpp"
COMPILER = os.environ.get("CXX", "c++")
SMALL_NETWORKS = (
    *("--set", "networks.width=8", "--set", "networks.train_steps=5"),
    *("--set", "networks.random=1", "--set", "networks.trained=2"),
)
PATHS = (
    *("--set", "trajectory.steps=2", "--set", "trajectory.inner_steps=3"),
    *("--set", "trajectory.batch_size=32", "--set", "trajectory.experts=1"),
    *("--set", "trajectory.epochs=2", "--set", "trajectory.max_start_epoch=1"),
)

Event = tuple[str, str, str, list[str]]  # see `pretended.Recorder`


@dataclass(frozen=True)
class Step:
    """A step of a condensation or a student: its stage, its number, what the device was told."""

    stage: str
    number: int
    events: list[Event]


class PretendedDevice:
    """Runs commands of the program on the pretended device, each in a process of its own."""

    def __init__(self) -> None:
        self._library = _built()

    def run(
        self, *arguments: object, record: Path | str = os.devnull
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command; what the recorder was told goes to the file `record`."""
        command = [sys.executable, HERE / "pretended.py", self._library, record, *arguments]
        return subprocess.run([str(each) for each in command], capture_output=True, text=True)

    def steps(self, folder: Path, *arguments: object) -> list[Step]:
        """The steps of a command that succeeds."""
        record = folder / "record.json"
        succeed(self.run(*arguments, record=record))
        found = json.loads(record.read_text())
        return [
            Step(stage, number, found["events"][first:last])
            for stage, number, first, last in found["steps"]
        ]


def succeed(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]


def obstacle() -> str | None:
    """Why the device cannot be pretended here."""
    if torch.cuda.is_available():
        return "there is a real CUDA device"
    return None if shutil.which(COMPILER) else f"needs the C++ compiler {COMPILER}"


def _built() -> Path:
    """The backend for this PyTorch, kept in the user's cache: it takes a minute to compile."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "gencond_fast" / "pretended_cuda"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    tag = f"{torch.__version__}-{sys.implementation.cache_tag}-{digest}"
    library = folder / f"{tag}.so"
    with FileLock(folder / f"{tag}.lock"):
        if not library.exists():
            made = folder / f"{tag}.new"
            paths = [*include_paths(), sysconfig.get_paths()["include"]]
            flags = ("-std=c++20", "-O1", "-shared", "-fPIC", "-w", *(f"-I{p}" for p in paths))
            command = [COMPILER, *flags, str(SOURCE), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-5000:]
            made.rename(library)
    return library
