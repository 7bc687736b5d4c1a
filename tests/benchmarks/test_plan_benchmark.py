"""Predicted and actual stand beside each other, phase by phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import plan as plan_benchmark
from benchmarks.results import MEASURED
from gencond_fast.planning import Forecast, Plan
from gencond_fast.planning.watch import Span, Timeline

PHASES = ("start", "networks", "bank", "experts", "condensing", "labels", "finish", "evaluation")


@pytest.mark.parametrize("name", plan_benchmark.SETTINGS)
def test_settings_are_runs_that_can_be_planned(name: str) -> None:
    config, evaluation = plan_benchmark.SETTINGS[name].configs(Path("/data"))
    assert config.data in ("digits", f"/data/{plan_benchmark.SETTINGS[name].data}")
    assert evaluation.data == config.data
    assert set(evaluation.baselines) <= {"random", "full"}
    assert not config.privacy.on


def test_rows_hold_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    forecast = Forecast(1, dict.fromkeys(PHASES, 6.0) | {"experts": 0.0, "labels": 0.0}, {})
    sizes = {"condensing": 550_000_000, "evaluation": 400_000_000}
    plan = Plan(
        *(1000, 800.0, 3, 10, 100, 8, "cpu, float32, eager", sizes, sizes, (forecast,)),
        *(10**10, 10, (), 9.0, {}),
    )
    spans = (
        Span("feature networks", 2.0, 4.0, (), 0),
        Span("real statistics", 5.0, 8.0, (), 0),
        Span("matching", 10.0, 22.0, (), 0),
    )
    timeline = Timeline(0.0, 1.0, 1.0, 25.0, spans, 500_000_000, 0)

    def taken(function, *arguments):
        if function is plan_benchmark._condense:
            run = arguments[1] / "run"
            run.mkdir()
            (run / "condensed.safetensors").write_bytes(bytes(1000))
        return timeline

    monkeypatch.setattr(plan_benchmark, "make_plan", lambda *arguments: plan)
    monkeypatch.setattr(plan_benchmark, "in_own_process", taken)
    rows = {row["quantity"]: row for row in plan_benchmark.measure("digits", Path())}
    assert rows["bytes"]["ratio"] == 1.0
    assert rows["memory, condensing"]["ratio"] == 1.1
    assert rows["time, networks"] == {
        **{"benchmark": "plan", "data": "digits", "setting": "digits", "unit": "s"},
        **{"quantity": "time, networks", "predicted": 6.0, "actual": 2.0, "ratio": 3.0},
    }
    assert rows["time, bank"]["actual"] == 6.0
    assert rows["time, condensing"]["ratio"] == 0.5
    assert rows["time, together"]["actual"] == 25.0 + 25.0
    assert rows["time of the plan"]["predicted"] == 9.0
    assert "time, experts" not in rows
    told_apart = {tuple(str(row[k]) for k in row if k not in MEASURED) for row in rows.values()}
    assert len(told_apart) == len(rows)
