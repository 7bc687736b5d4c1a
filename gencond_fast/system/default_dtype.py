"""The program computes in float32 whatever `torch.set_default_dtype` says in the process."""

from __future__ import annotations

import threading
from types import TracebackType

import torch


class _Float32Default:
    """A context, and a decorator's ground: inside, new tensors without a dtype are float32.

    The default belongs to the process. The first thread that enters sets it and the last one that
    leaves puts back what was there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = torch.float32

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.get_default_dtype()
                if self._before != torch.float32:
                    torch.set_default_dtype(torch.float32)
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and torch.get_default_dtype() != self._before:
                torch.set_default_dtype(self._before)


float32_default = _Float32Default()
