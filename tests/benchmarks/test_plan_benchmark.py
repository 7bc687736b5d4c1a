"""Predicted and actual stand beside each other, phase by phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import plan as plan_benchmark
from benchmarks.results import MEASURED
from gencond_fast.planning import Plan

PHASES = ("start", "networks", "bank", "experts", "condensing", "labels", "finish", "evaluation")


@pytest.mark.parametrize("name", plan_benchmark.SETTINGS)
def test_settings_are_runs_that_can_be_planned(name: str) -> None:
    config, evaluation = plan_benchmark.SETTINGS[name].configs(Path("/data"))
    assert config.data in ("digits", f"/data/{plan_benchmark.SETTINGS[name].data}")
    assert evaluation.data == config.data


def test_rows_hold_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = dict.fromkeys(PHASES, 6.0) | {"experts": 0.0, "labels": 0.0}
    sizes = {"condensing": 550_000_000, "evaluation": 400_000_000}
    plan = Plan(1000, 800.0, 3, 10, 100, 8, "cpu", seconds, sizes, sizes, (), 9.0, {})
    taken = {name: value / 2 for name, value in seconds.items() if name != "evaluation"}

    def run(folder, function, *arguments):
        if function is plan_benchmark._evaluate:
            return plan_benchmark.Taken({"evaluation": 24.0}, 500_000_000)
        (folder / "run").mkdir()
        (folder / "run" / "condensed.safetensors").write_bytes(bytes(1000))
        return plan_benchmark.Taken(taken, 500_000_000)

    monkeypatch.setattr(plan_benchmark, "plan", lambda *arguments, **options: plan)
    monkeypatch.setattr(plan_benchmark, "in_own_process", run)
    rows = {row["quantity"]: row for row in plan_benchmark.measure("digits", Path())}
    assert rows["bytes"]["ratio"] == 1.0
    assert rows["memory, condensing"]["ratio"] == 1.1
    assert rows["time, networks"] == {
        **{"benchmark": "plan", "data": "digits", "setting": "digits", "unit": "s"},
        **{"quantity": "time, networks", "predicted": 6.0, "actual": 3.0, "ratio": 2.0},
    }
    assert rows["time, evaluation"]["ratio"] == 0.25
    assert rows["time, together"]["actual"] == 5 * 3.0 + 24.0
    assert rows["time of the plan"]["predicted"] == 9.0
    assert "time, experts" not in rows
    told_apart = {tuple(str(row[k]) for k in row if k not in MEASURED) for row in rows.values()}
    assert len(told_apart) == len(rows)
