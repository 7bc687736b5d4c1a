"""Items made in a thread of their own, a few ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

import torch

T = TypeVar("T")

_END = object()


def ahead(items: Generator[T, None, None], count: int = 2) -> Generator[T, None, None]:
    """The same items in the same order, each made while those before it are used.

    The first item is made in the thread that asks for it, and so is all that begins with it:
    processes are forked where signals are seen to, and the GPU is that of the caller. The others
    are made in one thread, one after another, on the CUDA stream that was current then.

    It begins with the first item and ends with the iterator, also when that is closed or dropped
    early, once the item that is being made is there; then `items` is closed. An interpreter that
    exits waits for `count` items at most.

    Args:
        items: not to be used by anyone else.
        count: how many items are made that nobody has asked for yet, at least 1. So one more than
            that is held at any time.

    Raises:
        Exception: what `items` raises, in the place of the item.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="gencond-ahead")
    try:
        item = next(items, _END)
        take = _taking(items)
        coming = deque(thread.submit(take) for _ in range(count))
        while item is not _END:
            yield item  # type: ignore[misc]
            item = coming.popleft().result()
            coming.append(thread.submit(take))
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
        items.close()


def _taking(items: Generator[T, None, None]) -> Callable[[], T | object]:
    """What takes the next item in another thread, which has a current CUDA stream of its own."""
    on_gpu = torch.cuda.is_initialized()
    stream = torch.cuda.stream(torch.cuda.current_stream()) if on_gpu else nullcontext()

    def take() -> T | object:
        with stream:
            return next(items, _END)

    return take
