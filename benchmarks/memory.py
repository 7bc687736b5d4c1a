"""The most memory that one call takes beyond what was in use before."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mb(call: Callable[[], object], device: str) -> float | None:
    """Megabytes; None where the system does not let its high-water mark be reset."""
    gc.collect()
    return _cuda_peak(call) if device == "cuda" else _process_peak(call)


def _cuda_peak(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _process_peak(call: Callable[[], object]) -> float | None:
    _trim_heap()
    try:
        _CLEAR_REFS.write_text("5")  # 5: the high-water mark starts again from here
    except OSError:
        return None
    before = _status_mb("VmRSS")
    call()
    return max(0.0, _status_mb("VmHWM") - before)


def _trim_heap() -> None:
    # what the allocator keeps of earlier calls would be used again and go uncounted
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status_mb(entry: str) -> float:
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == entry:
            return int(value.split()[0]) * 1024 / 1e6
    raise OSError(f"{_STATUS} has no {entry}.")
