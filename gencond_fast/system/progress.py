"""What a long job tells the person who waits for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Task(Protocol):
    """One part of a job with a known length."""

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """Adds `amount` to what is done and shows the values, such as losses."""
        ...


def printable(text: str) -> str:
    """The text without the control characters that names in files from strangers may hold.

    Bytes of file names that are no UTF-8 are left to the stream to spell.
    """
    return "".join(
        c if c.isprintable() or c == "\n" or "\ud800" <= c <= "\udfff" else "?" for c in text
    )


class Reporter:
    """Tells nothing; the library's default."""

    def message(self, text: str) -> None:
        """One line worth reading."""

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """Opens a part of the job that takes `total` units, `done` of them already behind."""
        yield _Silent()


class _Silent:
    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Task.advance`."""


class PlainReporter(Reporter):
    """Lines on standard error, one every few seconds: for logs and pipes."""

    def __init__(self, every: float = 10.0) -> None:
        self._every = every

    def message(self, text: str) -> None:
        """See `Reporter.message`."""
        print(
            f"{printable(text)}\n", end="", file=sys.stderr, flush=True
        )  # whole, from whatever thread

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """See `Reporter.task`."""
        yield _Lines(self, name, total, done, self._every)


class _Lines:
    def __init__(self, reporter: Reporter, name: str, total: int, done: int, every: float) -> None:
        self._reporter, self._name, self._total, self._done = reporter, name, total, done
        self._every = every
        self._last = time.monotonic()

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Task.advance`."""
        self._done += amount
        now = time.monotonic()
        if now - self._last >= self._every or self._done >= self._total:
            self._last = now
            line = f"{self._name} {self._done}/{self._total}  {_show(values)}"
            self._reporter.message(line.rstrip())


class RichReporter(Reporter):
    """A progress bar on a terminal: step, time left, losses, images per second."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def message(self, text: str) -> None:
        """See `Reporter.message`."""
        self._console.print(printable(text), highlight=False, markup=False)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """See `Reporter.task`."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
        )
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task(name, total=total, completed=done, values="")
            yield _Bar(progress, bar)


class _Bar:
    def __init__(self, progress: Progress, bar: object) -> None:
        self._progress, self._bar = progress, bar

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Task.advance`."""
        fields = {} if values is None else {"values": _show(values)}
        self._progress.update(self._bar, advance=amount, **fields)  # type: ignore[arg-type]


def _show(values: Mapping[str, float] | None) -> str:
    return "  ".join(
        f"{name} {value:,.0f}" if abs(value) >= 1000 else f"{name} {value:.4g}"
        for name, value in (values or {}).items()
    )
