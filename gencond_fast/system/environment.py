"""What a result was made with: versions, machine, kernels, extension."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from typing import Any

import torch

from gencond_fast import _ext
from gencond_fast._version import __version__
from gencond_fast.kernels import launch

_PACKAGES = ("torch", "numpy", "pillow", "pyarrow", "safetensors", "constriction", "triton")


def versions() -> dict[str, str]:
    """Versions of the program, Python and the packages that shape results."""
    found = {"gencond_fast": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe() -> dict[str, Any]:
    """The whole environment as plain values, for people and for `environment.json`."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    dali = importlib.util.find_spec("nvidia.dali") if importlib.util.find_spec("nvidia") else None
    return {
        "versions": versions(),
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": torch.get_num_threads(),
            "gpu": gpu,
        },
        "extension": _ext.build_info(),
        "triton": launch.triton_status()._asdict(),
        "dali": "installed" if dali else "not installed",
    }
