"""Results replace their own, rounds adapt, hopeless calls are known, memory is counted."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
import torch

from benchmarks.cost import Cost, Rates, cost_of_matrices, floor_ms, pairs
from benchmarks.memory import peak_mb
from benchmarks.problem import Shape, make_problem
from benchmarks.results import update
from benchmarks.timing import time_in_turns
from benchmarks.watched import Finished, Line
from tests.robustness.thousand import _row


def row(provider: str, n: int, median: float | str, **more: object) -> dict[str, object]:
    return {"benchmark": "losses", "N": n, "provider": provider, "median_ms": median, **more}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_rerun_replaces_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "results" / "losses.csv"
    update(path, [row("ours", 1, 1.0), row("loop", 1, 2.0), row("ours", 2, 3.0)])
    update(path, [row("loop", 1, 4.0), row("ours", 1, 5.0, device="another")])
    found = [(r["provider"], r["N"], r["median_ms"], r["device"]) for r in read(path)]
    assert found == [
        ("ours", "1", "1.0", ""),
        ("loop", "1", "4.0", ""),
        ("ours", "2", "3.0", ""),
        ("ours", "1", "5.0", "another"),
    ]


def test_a_rerun_of_whole_runs_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "thousand.csv"
    for seconds in (5.0, 7.0):
        lines = [Line(1.0, "resuming at step 20"), Line(seconds, "condense 40/40  mean 0.1")]
        done = Finished(0, seconds + 1, lines, [int(seconds * 1e9)])
        killed = Finished(-9, seconds, lines[:1], [10**9])
        update(path, [_row("condense", killed, "condense 33%"), _row("condense", done, "")])
    found = [(r["killed_at"], r["seconds"], r["condense_s"], r["peak_rss_mb"]) for r in read(path)]
    assert found == [("condense 33%", "7.0", "", "1000"), ("", "8.0", "7.0", "7000")]
    students = {"provider": "ours", "students": 5}
    for step in (80.0, 90.0):
        update(path, [students | {"median_ms": step, "step_ms": step, "start_s": step / 10}])
    assert [r["step_ms"] for r in read(path)] == ["", "", "90.0"]


def test_a_skipped_call_gives_way_to_a_measured_one(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    update(path, [row("loop", 1, "", skipped="needs about 20 GB", command="a")])
    update(path, [row("loop", 1, 2.0, skipped="", command="b")])
    (only,) = read(path)
    assert (only["median_ms"], only["skipped"], only["command"]) == ("2.0", "", "b")


def test_slow_providers_sit_out(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"quick": 0, "slow": 0}
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def call(name: str, seconds: float) -> None:
        nonlocal now
        calls[name] += 1
        now += seconds

    timings = time_in_turns(
        {"quick": lambda: call("quick", 0), "slow": lambda: call("slow", 0.02)},
        rounds=9,
        seconds=0.01,
    )
    assert calls == {"quick": 11, "slow": 4}
    assert (timings["quick"].rounds, timings["slow"].rounds) == (9, 3)
    assert timings["slow"].lower == pytest.approx(20)


RATES = Rates(float32=1e9, fastest=1e9, copied=1e9)


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        (Cost(1e9, 1e9, 1e9, 1.0), None),
        (Cost(0, 17e9, 0), "needs about 17 GB"),
        (Cost(25e9, 0, 5e9, 1.0), "would take about 31 s"),
    ],
)
def test_hopeless_calls_are_known_beforehand(cost: Cost, reason: str | None) -> None:
    assert cost.obstacle(RATES, memory=16e9, seconds=20.0) == reason


def test_estimates_follow_the_classes() -> None:
    equal, ragged = (make_problem("rbf", Shape(3000, 8, 10, s)) for s in ("equal", "ragged"))
    assert pairs(equal) == pairs(equal, padded=True) == 10 * 300**2
    assert pairs(equal) < pairs(ragged) < pairs(ragged, padded=True)
    assert pairs(make_problem("inter-hinge", Shape(3000, 8, 10, "equal"))) == 100
    one, all_of_them = (
        cost_of_matrices(equal, backward=backward, padded=False, compiled=False, loop=True)
        for backward in (False, True)
    )
    assert one.held >= 4 * 300**2
    assert all_of_them.held >= 10 * 4 * 300**2


def test_floor() -> None:
    problem = make_problem("rbf", Shape(3000, 8, 10, "equal"))
    gram = 10 * 300**2 * 2 * 8
    assert floor_ms(problem, RATES, backward=False) == pytest.approx(1e3 * 0.5 * gram / 1e9)
    assert floor_ms(problem, RATES, backward=True) == pytest.approx(1e3 * 1.5 * gram / 1e9)
    narrow = Rates(float32=1e15, fastest=1e15, copied=1e6)
    assert floor_ms(problem, narrow, backward=True) == pytest.approx(3 * 3000 * 8 * 4 / 1e3)


def test_peak_memory_counts_what_was_freed_again() -> None:
    peak = peak_mb(lambda: torch.ones(16 * 2**20).sum(), "cpu")
    if peak is None:
        pytest.skip("the high-water mark cannot be reset here")
    assert 60 < peak < 90
