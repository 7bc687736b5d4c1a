"""The runner records what it leaves out, and times nothing that it has not checked."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks import losses, moments, run
from benchmarks.losses import GRIDS, KINDS, Limits, Shape

TINY = Shape(60, 4, 5, "ragged")


def call(monkeypatch: pytest.MonkeyPatch, results: Path, *arguments: str) -> Result:
    monkeypatch.setattr(run, "_RESULTS", results)
    monkeypatch.setitem(GRIDS, "quick", [TINY])
    return CliRunner().invoke(run.main, arguments)


def test_what_is_too_large_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = call(monkeypatch, tmp_path, "losses", "--memory-limit", "0", "--kind", "rbf")
    assert done.exit_code == 0, done.output
    with (tmp_path / "losses.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["mode"] for row in rows} == {"forward", "forward+backward"}
    assert {row["median_ms"] for row in rows} == {""}
    reasons = {row["provider"]: row["skipped"] for row in rows}
    assert reasons["eager loop"] == "needs about 0 GB"
    assert {"gencond_fast", "compiled padded bmm, bf16", "KeOps", "geomloss"} <= set(reasons)


def test_a_check_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = call(monkeypatch, tmp_path, "losses", "--memory-limit", "0", "--check")
    assert done.exit_code == 0, done.output
    assert all(f"kind {kind} " in done.output for kind in KINDS)
    assert not list(tmp_path.iterdir())


def test_nothing_is_timed_that_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def disagree(*_: object) -> None:
        raise AssertionError("eager loop: the loss is off")

    monkeypatch.setattr(losses, "check_agreement", disagree)
    with pytest.raises(AssertionError, match="eager loop"):
        next(losses.cases([TINY], ["rbf"], limits=Limits(0.0)))


def test_large_problems_are_checked_on_fewer_samples() -> None:
    shape = Shape(4000, 4, 5, "ragged")
    problem = losses.make_problem("rbf", shape)
    rates = losses.Rates(1e12, 1e12, 1e12)
    assert losses._checkable(problem, shape, Limits(16.0), rates) is problem
    fewer = losses._checkable(problem, shape, Limits(0.01), rates)
    assert 10 <= len(fewer.features) < 4000
    assert len(fewer.counts) == 5


def test_every_shape_of_a_grid_has_pairs_within_its_classes() -> None:
    for shape in (shape for grid in GRIDS.values() for shape in grid):
        assert shape.samples >= 2 * shape.classes


def test_moments_go_through_the_same_runner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(moments.GRIDS, "quick", [(Shape(50, 4, 3, "ragged"), False)])
    monkeypatch.setattr(moments, "_GRADIENT_WIDTH", 4)
    make = moments.make_providers
    monkeypatch.setattr(
        moments,
        "make_providers",
        lambda problem: {n: p for n, p in make(problem).items() if not p.compiled},
    )
    done = call(monkeypatch, tmp_path, "moments", "--rounds", "3", "--time-limit", "0")
    assert done.exit_code == 0, done.output
    with (tmp_path / "moments.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["mode"], row["provider"]): row for row in csv.DictReader(file)}
    assert {mode for mode, _ in rows} == set(moments.PASSES)
    ours = rows["forward", "gencond_fast"]
    assert (ours["N"], ours["classes"], ours["rows"], ours["rounds"]) == (
        *("50", "ragged", "unsorted", "3"),
    )
    for (mode, _), row in rows.items():
        if row["skipped"]:
            continue
        copied, read = (rows[mode, f"{name} the features"] for name in ("copying", "reading"))
        took, passes = float(row["median_ms"]), moments.PASSES[mode]
        # the columns are rounded to four digits behind the point
        assert float(row["of_read"]) == pytest.approx(
            passes * float(read["median_ms"]) / took, rel=0.1, abs=1e-4
        )
        assert float(row["of_copy"]) == pytest.approx(
            passes / 2 * float(copied["median_ms"]) / took, rel=0.1, abs=1e-4
        )
    assert rows["forward", "SciPy ndimage"]["skipped"].startswith("would take about")
    assert ("backward", "NumPy add.at") not in rows


def test_the_full_grid_of_moments_holds_the_quick_one() -> None:
    assert set(moments.GRIDS["quick"]) < set(moments.GRIDS["full"])
