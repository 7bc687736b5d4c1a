"""The share of time spent waiting for data."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.data import data_timer as module
from gencond_fast.data.data_timer import DataTimer

SECONDS = st.integers(0, 1000)


@given(st.lists(st.lists(st.tuples(SECONDS, SECONDS)), max_size=4))
def test_waiting_counts_but_for_first_items(passes):
    """Each item takes a time to come and a time to be used."""
    now = 0

    def items(each):
        nonlocal now
        for coming, _ in each:
            now += coming
            yield coming
        now += 99  # whatever ends behind the last item

    waiting, used = DataTimer(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "perf_counter", lambda: now)
        for each in passes:
            for place, item in enumerate(waiting.around(items(each))):
                assert item == each[place][0]
                now += each[place][1]
    waited = sum(coming for each in passes for coming, _ in each[1:])
    used = sum(first[1] for each in passes for first, _ in pairwise(each))
    assert waiting.waited == waited
    assert waiting.passed == waited + used


def test_it_is_said_in_a_line_if_there_is_anything_to_say():
    waiting, told = DataTimer(), []
    assert list(waiting.around([1])) == [1]
    waiting.tell(told.append)
    assert told == []
    waiting.waited, waiting.passed = 0.03, 1.0
    waiting.tell(told.append)
    assert told == ["waited for data 3 % of the time after the first batch"]


def test_what_it_is_around_ends_with_it():
    ended = []

    def items():
        try:
            yield from range(5)
        finally:
            ended.append(True)

    around = DataTimer().around(items())
    next(around)
    around.close()
    assert ended == [True]
