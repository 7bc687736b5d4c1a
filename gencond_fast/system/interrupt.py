"""Ctrl-C and SIGTERM are noted at once and obeyed between steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Terminated(Exception):
    """SIGTERM arrived and the state is saved."""


def obey(number: int) -> None:
    """Raises KeyboardInterrupt for SIGINT and Terminated for SIGTERM, nothing for 0."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number == signal.SIGTERM:
        raise Terminated


class Interrupts:
    """A context in which the first SIGINT or SIGTERM waits for `raise_pending`.

    A second SIGINT raises at once. Outside the main thread signals cannot be caught, and the
    context does nothing.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def number(self) -> int:
        """Of the signal that waits, 0 for none."""
        return self._signal or 0

    @property
    def pending(self) -> bool:
        """Whether a signal waits."""
        return self._signal is not None

    def raise_pending(self) -> None:
        """Raises KeyboardInterrupt or Terminated if a signal waits."""
        obey(self.number)

    def pass_on(self) -> None:
        """Once outside the context: hands a signal that waits to whoever else handles it."""
        if self._signal is not None:
            signal.raise_signal(self._signal)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
