"""Worker processes that decode images: forked from this process, and ended with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

import torch
from PIL import Image

from gencond_fast.errors import RunError
from gencond_fast.system.interrupt import Interrupts

T = TypeVar("T")


@dataclass
class _Worker:
    """What a worker holds."""

    shared: Any
    stop: Event


_worker: _Worker


@contextmanager
def forked(workers: int, shared: object) -> Generator[ProcessPoolExecutor, None, None]:
    """A pool of worker processes, in which `held()` returns `shared` without copying it.

    All workers run on entry and are gone on exit. On exit they finish the tasks under way; tasks
    that wait are dropped. If this process is killed they end by themselves.
    """
    Image.init()  # its parsers are imported once, not in each process
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(shared, stop, os.getpid())
    )
    try:
        # a signal that arrives while a process is being made would be lost
        with Interrupts() as interrupts:
            pool.submit(os.getpid)  # makes all of them
        interrupts.pass_on()
        yield pool
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def held() -> Any:
    """In a worker: the `shared` of the process that forked it."""
    return _worker.shared


def stopping() -> bool:
    """In a worker: whether nobody waits for its results any more."""
    return _worker.stop.is_set()


def result(future: Future[T], place: str, advice: str) -> T:
    """The result of a task of a worker.

    Args:
        future: of the task.
        place: the images of the task, for the message.
        advice: what to do if memory ran out, for the message.

    Raises:
        RunError: a worker died, as it does when memory runs out.
    """
    try:
        return future.result()
    except (BrokenProcessPool, MemoryError):
        raise RunError(
            f"decoding {place} or the images after them ended a process; memory may have run out: "
            f"{advice}"
        ) from None


def _begin(shared: object, stop: Event, parent: int) -> None:
    """Sets up a worker."""
    global _worker
    _worker = _Worker(shared, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)  # the threads of the parent's pool are not there
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """Ends a worker whose parent was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
