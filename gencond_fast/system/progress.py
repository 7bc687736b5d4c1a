"""What a long job tells the person who waits for it."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from gencond_fast.system.clock import Clock, Job

_BAR = 24  # columns of the bar, fewer where the terminal is narrow
_LEAST_BAR = 6
_GAP = 1


class Phase(Protocol):
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


class LatePhase:
    """Stands for a phase that is opened only once its total is known.

    Attributes:
        phase: what it passes everything on to; None until there is one.
    """

    def __init__(self) -> None:
        self.phase: Phase | None = None

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Phase.advance`."""
        if self.phase is not None:
            self.phase.advance(amount, values)


class Reporter:
    """Tells nothing; the library's default."""

    def message(self, text: str) -> None:
        """One line worth reading."""

    def expect(self, work: Mapping[str, float]) -> None:
        """Announces the phases of the job in order, each with its amount of work.

        Args:
            work: by name of the phase, all in one unit that time is about proportional to.
        """

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Phase]:
        """Opens a part of the job that takes `total` units, `done` of them already behind."""
        yield _Silent()


class _Silent:
    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Phase.advance`."""


class _Visible(Reporter):
    """What reporters that show something share: the phases to come."""

    def __init__(self) -> None:
        self._job = Job({})

    def expect(self, work: Mapping[str, float]) -> None:
        """See `Reporter.expect`."""
        self._job = Job(work)


class PlainReporter(_Visible):
    """Lines on standard error, one every few seconds: for logs and pipes."""

    def __init__(self, every: float = 10.0) -> None:
        super().__init__()
        self._every = every

    def message(self, text: str) -> None:
        """See `Reporter.message`."""
        print(
            f"{printable(text)}\n", end="", file=sys.stderr, flush=True
        )  # whole, from whatever thread

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Phase]:
        """See `Reporter.phase`."""
        clock = Clock(self._job, name, total, done)
        yield _Lines(self, clock, self._every)
        clock.close()


class _Lines:
    def __init__(self, reporter: Reporter, clock: Clock, every: float) -> None:
        self._reporter, self._clock, self._every = reporter, clock, every
        self._last = time.monotonic()

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Phase.advance`."""
        clock = self._clock
        clock.done += amount
        now = time.monotonic()
        if now - self._last >= self._every or clock.done >= clock.total:
            self._last = now
            parts = (f"{clock.title} {clock.count}", clock.times(), "  ".join(_show(values)))
            self._reporter.message("  ".join(part for part in parts if part))


class RichReporter(_Visible):
    """A progress bar on a terminal or in a notebook: count, time left, losses where they fit."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def message(self, text: str) -> None:
        """See `Reporter.message`."""
        self._console.print(printable(text), highlight=False, markup=False)

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Phase]:
        """See `Reporter.phase`."""
        clock = Clock(self._job, name, total, done)
        if total == 0:  # all of it was in the cache
            yield _Silent()
            clock.close()
            return
        line = _Line(clock, self._console)
        columns = (line.column("title"), line.bar, line.column("count"), line.column("rest"))
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task(name, total=total, completed=done)
            yield _Bar(progress, bar, line)
        clock.close()


class _Bar:
    def __init__(self, progress: Progress, bar: object, line: _Line) -> None:
        self._progress, self._bar, self._line = progress, bar, line

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Phase.advance`."""
        self._line.clock.done += amount
        if values is not None:
            self._line.values = _show(values)
        self._progress.update(self._bar, advance=amount)  # type: ignore[arg-type]


class _Line:
    """The cells of the line of one phase, which together fit the width of the console."""

    def __init__(self, clock: Clock, console: Console) -> None:
        self.clock, self._console = clock, console
        self.values: list[str] = []
        self.bar = BarColumn(bar_width=_BAR)

    def column(self, name: str) -> ProgressColumn:
        return _Cell(self, name)

    def cell(self, name: str) -> str:
        rest = self._rest()  # also sets the width of the bar, which comes after the title
        return {"title": self.clock.title, "count": self.clock.count, "rest": rest}[name]

    def _rest(self) -> str:
        """The time left and, as far as there is room, that of the whole run and the losses."""
        shown = self.clock.left() or "-:--:-- left"
        whole = self.clock.whole_left()
        if whole and self._room(f"{shown}  {whole}") >= _LEAST_BAR:
            shown = f"{shown}  {whole}"
        self.bar.bar_width = min(_BAR, max(_LEAST_BAR, self._room(shown)))
        for value in self.values:
            if self._room(f"{shown}  {value}") < self.bar.bar_width:
                break
            shown = f"{shown}  {value}"
        return shown

    def _room(self, rest: str) -> int:
        """Columns that the bar can have beside the other cells and the gaps."""
        taken = sum(map(cell_len, (self.clock.title, self.clock.count, rest)))
        return self._console.width - taken - 3 * _GAP


class _Cell(ProgressColumn):
    def __init__(self, line: _Line, name: str) -> None:
        super().__init__()
        self._line, self._name = line, name

    def render(self, task: Task) -> Text:
        """See `ProgressColumn.render`."""
        return Text(self._line.cell(self._name), no_wrap=True, overflow="ellipsis")


def choose_reporter() -> Reporter:
    """A progress bar on a terminal and in a notebook, lines elsewhere."""
    console = Console(stderr=True)
    # a notebook shows the bar by a widget
    notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return RichReporter(console) if console.is_terminal or notebook else PlainReporter()


def _show(values: Mapping[str, float] | None) -> list[str]:
    return [
        f"{name} {value:,.0f}" if abs(value) >= 1000 else f"{name} {value:.4g}"
        for name, value in (values or {}).items()
    ]
