"""Whether Triton kernels can run here. Importing this module does not import Triton."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import NamedTuple


class TritonStatus(NamedTuple):
    """Whether Triton kernels can run, why or why not, and Triton's version if it is installed."""

    available: bool
    reason: str
    version: str | None


def interpreting() -> bool:
    """Whether TRITON_INTERPRET makes kernels run in Triton's interpreter, on the CPU.

    Triton reads the variable when a kernel is decorated, so set it before kernels are imported.
    """
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def triton_status() -> TritonStatus:
    """Look for Triton and a device for it. Imports Triton, and asks CUDA for a device, no more.

    Returns:
        TritonStatus(available, reason, version); the reason is a sentence, also where available.
    """
    if importlib.util.find_spec("triton") is None:
        return TritonStatus(False, "Triton is not installed.", None)
    try:
        version = str(importlib.import_module("triton").__version__)
    except Exception as error:  # a broken install may raise anything, and must not end `info`
        return TritonStatus(False, f"Triton does not import: {error}", None)
    if interpreting():
        return TritonStatus(True, "Kernels run in Triton's interpreter, on the CPU.", version)
    import torch

    if not torch.cuda.is_available():
        return TritonStatus(False, "There is no CUDA device for Triton kernels.", version)
    return TritonStatus(True, "Kernels are compiled for the CUDA device.", version)
