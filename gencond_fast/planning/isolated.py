"""A call in a process of its own, which starts as a command does and whose memory is its own."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from gencond_fast.distributed.failure import packed_error, unpacked_error
from gencond_fast.errors import InputError, RunError
from gencond_fast.system.interrupt import Terminated

T = TypeVar("T")

_PATIENCE = 10.0  # seconds for a process that has answered to end


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """What a function gives that is called with these and, last, the time of this call.

    Args:
        function: of a module; it is imported anew.
        arguments: picklable.

    Raises:
        InputError, OSError, RunError: as the function does; RunError also where the process died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    began = time.monotonic()
    process = context.Process(target=_serve, args=(theirs, function, (*arguments, began)))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
        process.join(_PATIENCE)
    except EOFError:
        raise RunError(
            "a process of the calibration died, as it does when memory runs out: plan with fewer "
            "images in a step (training.batch_per_class, training.class_batch)"
        ) from None
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
    if "error" in answer:
        raise unpacked_error(answer["error"])
    found: T = answer["value"]
    return found


def keep_to(folder: Path) -> None:
    """Lets this process put what it would cache into a folder, compiled code included."""
    os.environ["GENCOND_FAST_CACHE"] = str(folder / "cache")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")


def _serve(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer = {"value": function(*arguments)}
    except (InputError, OSError, RunError, KeyboardInterrupt, Terminated) as error:
        answer = {"error": packed_error(error, 0)}
    pipe.send(answer)
