"""Data time: how much of its time a job waits for images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class DataTimer:
    """A stopwatch around iterators: how long they take to give their next item.

    For example, in a loop over batches::

        timer = DataTimer()
        for batch in timer.around(batches):
            ...  # train
        timer.tell(print)  # waited for data 12 % of the time after the first batch

    The first item of an iterator does not count, because nothing is prepared when it is asked for.

    Attributes:
        waited: seconds spent waiting for items.
        passed: seconds from the first item of each iterator to its last.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.passed = 0.0

    def around(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; measures how long each takes to come."""
        given = asked = None
        for item in items:
            now = time.perf_counter()
            if given is not None and asked is not None:
                self.waited += now - asked
                self.passed += now - given
            given = now
            yield item
            asked = time.perf_counter()

    def tell(self, tell: Callable[[str], None]) -> None:
        """Says in a line which share of the time was waiting, if an iterator had a second item."""
        if self.passed:
            share = 100 * self.waited / self.passed
            tell(f"waited for data {share:.0f} % of the time after the first batch")
