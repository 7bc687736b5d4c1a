"""Finds the compiled extension `gencond_fast._C`, and remembers why when there is none.

Importing it registers the C++ ops with PyTorch. `setup.py` leaves `_build.json` beside it, which
says for which PyTorch it was built, or why it could not be.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

BUILD_RECORD = Path(__file__).with_name("_build.json")


def _read_record() -> dict[str, Any]:
    try:
        record = json.loads(BUILD_RECORD.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _load() -> tuple[ModuleType | None, str]:
    """The extension and "", or None and the reason as a sentence."""
    if os.environ.get("GENCOND_EXT") == "off":
        return None, "the C++ extension is switched off by GENCOND_EXT=off."
    record = _read_record()
    if "failure" in record:
        return None, f"the C++ extension could not be built: {record['failure']}"
    built_for = str(record.get("torch", torch.__version__))
    if _minor(built_for) != _minor(torch.__version__):
        # C++ symbols may still resolve across versions and then corrupt memory, so never try
        return None, (
            f"the C++ extension was built for torch {built_for}, but this is torch "
            f"{torch.__version__}: install gencond-fast again."
        )
    try:
        return importlib.import_module("gencond_fast._C"), ""
    except ModuleNotFoundError:
        return None, (
            "there is no C++ extension for this Python in the installation: "
            "it was left out (GENCOND_EXT=off) or built for another."
        )
    except ImportError as error:
        return None, f"the C++ extension does not load: {error}"


module, reason = _load()


def available() -> bool:
    """Whether the compiled extension is loaded."""
    return module is not None


def cuda_available() -> bool:
    """Whether it is loaded and has the CUDA kernels."""
    return module is not None and module.build_info()["cuda"] == "yes"


def build_info() -> dict[str, str]:
    """What the extension was built with and the instruction set in use, or the reason it is absent.

    Returns:
        Always "extension" ("yes" or "no"); then "reason", or "torch", "compiler", "cuda" (whether
        its CUDA kernels were built), "cpu_isa" and "cpu_isas" (those this build and machine can
        run, comma-separated).
    """
    if module is None:
        return {"extension": "no", "reason": reason}
    return {"extension": "yes", **module.build_info(), "cpu_isa": module.cpu_isa()}
