"""Prefetching: a thread makes items a few ahead of their use."""

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
    """The same items in the same order; each is made while the items before it are used.

    The thread of the caller makes the first item and everything that begins with it, so that
    worker processes are forked in the thread that handles signals, and the GPU is the caller's.
    Another thread makes the other items one after another, on the CUDA stream that was current when
    the first item was asked for.

    That thread ends with the iterator, also when the iterator is closed or dropped early, as soon
    as the item under way is finished; then `items` is closed. An interpreter that exits waits for
    at most `count` items.

    Args:
        items: the items; nobody else may use this generator.
        count: how many items are made before they are asked for, at least 1. One more than that is
            held at any time.

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
    """A function that takes the next item in another thread, on the current CUDA stream."""
    on_gpu = torch.cuda.is_initialized()
    stream = torch.cuda.stream(torch.cuda.current_stream()) if on_gpu else nullcontext()

    def take() -> T | object:
        with stream:
            return next(items, _END)

    return take
