"""How much of its time a job waits for its data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class DataTimer:
    """A stopwatch around iterators: the time until their next item, but for the first ones.

    The first item of a pass is left out because nothing has been prepared by then.

    Attributes:
        waited: seconds spent waiting.
        passed: seconds spent altogether, from each first item to the last.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.passed = 0.0

    def around(self, items: Iterable[T]) -> Iterator[T]:
        """The items, while it is measured how long they take to come."""
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
        """Says the share in a line, if any pass had a second item."""
        if self.passed:
            share = 100 * self.waited / self.passed
            tell(f"waited for data {share:.0f} % of the time after the first batch")
