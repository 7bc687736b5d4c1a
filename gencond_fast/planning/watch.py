"""When a run came how far: what it tells its reporter, with the time and the memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch

from gencond_fast.system.memory import peak_memory
from gencond_fast.system.progress import Phase, Reporter


@dataclass(frozen=True)
class Span:
    """One part of a run, as its reporter was told of it.

    Attributes:
        name: of the part.
        start: seconds of the clock that all processes of a machine share.
        end: likewise.
        laps: what was done at each report, and when that was.
        peak: bytes that the process had taken at most by the end.
    """

    name: str
    start: float
    end: float
    laps: tuple[tuple[int, float], ...]
    peak: int

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.end - self.start

    @property
    def steps(self) -> list[tuple[int, float]]:
        """What was done between each two reports, and the seconds that it took."""
        times = [self.start, *(when for _, when in self.laps)]
        taken = [later - earlier for earlier, later in pairwise(times)]
        return [(amount, each) for (amount, _), each in zip(self.laps, taken, strict=True)]


@dataclass(frozen=True)
class Timeline:
    """A condensation or an evaluation in a process of its own.

    Attributes:
        began: when the process was started.
        opened: when the data were open and nothing else was done.
        resumed: when the run went on from there.
        ended: when its result was there.
        spans: its parts, in the order in which they ended.
        peak: bytes of memory that the process had taken at most.
        device_peak: bytes of the GPU, 0 without one.
    """

    began: float
    opened: float
    resumed: float
    ended: float
    spans: tuple[Span, ...]
    peak: int
    device_peak: int

    def find(self, name: str) -> Span:
        """The part of that name; one of no length where it was left out."""
        first = min(self.spans, key=lambda span: span.start)
        missing = Span(name, first.start, first.start, (), first.peak)
        return next((span for span in self.spans if span.name == name), missing)

    def like(self, name: str) -> list[Span]:
        """The parts whose names begin so."""
        return [span for span in self.spans if span.name.startswith(name)]

    @property
    def preparing(self) -> float:
        """Seconds until the first part, but for what was done between opening and going on."""
        first = min(span.start for span in self.spans)
        return (self.opened - self.began) + (first - self.resumed)

    def condensing(self) -> dict[str, float]:
        """The seconds of the phases of a condensation, whose sum is all of its time."""
        networks, steps = self.find("feature networks"), self.find("matching")
        experts = sum(span.seconds for span in self.like("expert "))
        of_labels = ("teacher ", "label networks", "soft labels")
        labels = sum(span.seconds for name in of_labels for span in self.like(name))
        return {
            "start": self.preparing,
            "networks": networks.seconds,
            "bank": steps.start - networks.end - experts,
            "experts": experts,
            "condensing": steps.seconds,
            "labels": labels,
            "finish": self.ended - steps.end - labels,
        }


class Watch(Reporter):
    """Notes what it is told, and says nothing.

    Args:
        device: whose work is waited for at each report, so that its time is told as well.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.spans: list[Span] = []
        self._on_gpu = device == "cuda"

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Phase]:
        """See `Reporter.phase`."""
        laps = _Laps(self._on_gpu)
        start = time.monotonic()
        yield laps
        end = time.monotonic()
        self.spans.append(Span(name, start, end, tuple(laps.found), peak_memory()))

    def timeline(self, began: float, opened: float, resumed: float) -> Timeline:
        """All of it, ended now."""
        ended, peak = time.monotonic(), peak_memory()
        device = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
        return Timeline(began, opened, resumed, ended, tuple(self.spans), peak, device)


class _Laps:
    def __init__(self, on_gpu: bool) -> None:
        self.found: list[tuple[int, float]] = []
        self._on_gpu = on_gpu

    def advance(self, amount: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Phase.advance`."""
        if self._on_gpu:
            torch.cuda.synchronize()
        self.found.append((amount, time.monotonic()))
