"""How much of a job is done, and what time is left for its open phase and for all of it."""

from __future__ import annotations

import time
from collections.abc import Mapping

_KNOWN_AFTER = 1.0  # seconds until the speed of a phase is taken for known


class Job:
    """All phases of a job: which of how many one is, and how long those after it may take."""

    def __init__(self, work: Mapping[str, float]) -> None:
        self._work = dict(work)
        self._names = list(work)
        self._seconds = self._done = 0.0  # of phases that are behind

    def title(self, name: str) -> str:
        """`3 of 4 · matching`."""
        if name not in self._names or len(self._names) == 1:
            return name
        return f"{self._names.index(name) + 1} of {len(self._names)} · {name}"

    def after(self, name: str, share: float, seconds: float) -> float | None:
        """Seconds that the phases after this one take at the speed so far.

        Args:
            name: of the phase that is open.
            share: of it that was done since it was opened.
            seconds: that this took.
        """
        if name not in self._names:
            return None
        later = sum(self._work[each] for each in self._names[self._names.index(name) + 1 :])
        done = self._done + share * self._work[name]
        return later * (self._seconds + seconds) / done if done else None

    def close(self, name: str, share: float, seconds: float) -> None:
        """Takes the speed of a phase that is behind into account."""
        if name in self._names:
            self._seconds += seconds
            self._done += share * self._work[name]


class Clock:
    """One phase: how much is done, and what time is left for it and for the whole job."""

    def __init__(self, job: Job, name: str, total: int, done: int) -> None:
        self._job, self._name = job, name
        self.title = job.title(name)
        self.total, self.done, self._first = total, done, done
        self._start = time.monotonic()

    @property
    def count(self) -> str:
        """`300/4000`."""
        return f"{self.done}/{self.total}"

    def left(self) -> str:
        """The time left for this phase, nothing until its speed is known."""
        seconds = self._left()
        return "" if seconds is None else f"{_time(seconds)} left"

    def whole_left(self) -> str:
        """The time left for the whole job, nothing where this is its last phase."""
        seconds = self._left()
        after = self._job.after(self._name, self._share, self._seconds)
        return f"whole run {_time(seconds + after)}" if seconds is not None and after else ""

    def times(self) -> str:
        """Both, nothing at the end of the phase."""
        if self.done >= self.total:
            return ""
        return ", ".join(filter(None, (self.left(), self.whole_left())))

    def close(self) -> None:
        """The phase is over."""
        self._job.close(self._name, self._share, self._seconds)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def _share(self) -> float:
        return (self.done - self._first) / self.total if self.total else 0.0

    def _left(self) -> float | None:
        new = self.done - self._first
        if new <= 0 or self._seconds < _KNOWN_AFTER:
            return None
        return max(0, self.total - self.done) * self._seconds / new


def _time(seconds: float) -> str:
    """`1:05:09`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
