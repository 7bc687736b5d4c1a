"""An error, as the other ranks are told of it."""

from __future__ import annotations

from typing import Any

from gencond_fast.errors import InputError, RunError
from gencond_fast.system.interrupt import Terminated


def packed_error(error: BaseException, rank: int) -> dict[str, Any]:
    """What goes through the store: JSON."""
    if isinstance(error, InputError):
        return {"input": str(error)}
    if isinstance(error, OSError):
        filename = None if error.filename is None else str(error.filename)
        return {"os": (error.errno, error.strerror or str(error), filename)}
    if isinstance(error, RunError):
        return {"run": str(error)}
    if isinstance(error, KeyboardInterrupt | Terminated):
        return {"asked": type(error).__name__}
    return {"rank": rank, "ended": f"{type(error).__name__} {error}".strip()}


def unpacked_error(packed: dict[str, Any]) -> BaseException:
    """The error that a rank raises which is told of that of another one."""
    if "input" in packed:
        return InputError(packed["input"])
    if "os" in packed:
        return OSError(*packed["os"])
    if "run" in packed:
        return RunError(packed["run"])
    if "asked" in packed:
        return Terminated() if packed["asked"] == "Terminated" else KeyboardInterrupt()
    return RunError(
        f"rank {packed['rank']} ended ({packed['ended']}): run the same command again to continue"
    )
