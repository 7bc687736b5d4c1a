"""DataTimer for other ranks, when it takes long and when they are gone."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.distributed as dist

from gencond_fast.distributed import collectives
from gencond_fast.distributed.collectives import RankLost

TIMED_OUT = "Operation timed out!"
GONE = "Connection closed by peer [127.0.0.1]"


class Work:
    """One operation of a process group, which ends in the given waiting or just after it."""

    def __init__(self, waits: int, *, late: bool, error: str | None = None) -> None:
        self._left, self._late, self._error = waits, late, error

    def is_completed(self) -> bool:
        return self._left < 0 or (self._late and self._left == 0)

    def wait(self, timeout: object) -> bool:
        self._left -= 1
        if self._left >= 0:
            raise RuntimeError(TIMED_OUT)
        if self._error:
            raise RuntimeError(self._error)
        return True


def add(work: Work, look=lambda: None) -> None:
    with mock.patch.object(dist, "all_reduce", return_value=work):
        collectives.all_reduce([torch.zeros(2)], look)


@pytest.mark.parametrize("waits", [0, 1, 3])
@pytest.mark.parametrize("late", [False, True], ids=["while waiting", "between two waits"])
def test_what_ends_well_is_no_failure_however_late(waits, late):
    looks = []
    add(Work(waits, late=late), lambda: looks.append(1))
    assert len(looks) == waits


@pytest.mark.parametrize("waits", [0, 2])
@pytest.mark.parametrize("late", [False, True], ids=["while waiting", "between two waits"])
def test_a_lost_rank_is_named_by_its_connection(waits, late):
    with pytest.raises(RankLost, match="ended without a word.*Connection closed by peer"):
        add(Work(waits, late=late, error=GONE))


def test_what_another_rank_says_goes_first():
    def look() -> None:
        raise ValueError("picture.png cannot be decoded")

    with pytest.raises(ValueError, match=r"picture\.png"):
        add(Work(0, late=False, error=GONE), look)
