"""The providers of the channel benchmark agree, and one that does not is named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import channels, run
from gencond_fast import _ext

pytestmark = pytest.mark.skipif(not _ext.available(), reason="needs the C++ extension")


@pytest.fixture(autouse=True)
def _small_and_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SHAPES", [(3, 5, 4, 4), (2, 3, 9, 7)])
    monkeypatch.setattr(torch, "compile", lambda function: function)


def test_cases_agree_in_both_layouts_and_all_modes() -> None:
    keys = [tuple(case.key.values()) for case in channels.cases()]
    assert len(keys) == len(set(keys)) == 2 * 2 * 3
    assert ("2x3x9x7", "channels_last", "matching") in keys


@pytest.mark.parametrize("mode", channels.MODES)
def test_a_wrong_provider_is_named(mode: str) -> None:
    x = torch.randn(3, 5, 4, 4)
    outputs = {name: call() for name, call in channels.providers(x, mode).items()}
    channels.check(outputs)
    for wrong in (1.01, torch.nan):
        ours = tuple(value * wrong for value in outputs["gencond_fast"])
        with pytest.raises(AssertionError, match="gencond_fast"):
            channels.check(outputs | {"gencond_fast": ours})


def test_results_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "_RESULTS", tmp_path)
    monkeypatch.setattr(channels, "SHAPES", [(3, 5, 4, 4)])
    monkeypatch.delitem(channels.LAYOUTS, "contiguous")
    done = CliRunner().invoke(run.main, ["channels", "--rounds", "3"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "channels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["mode"] for row in rows} == set(channels.MODES)
    assert all(float(row["median_ms"]) > 0 for row in rows if not row["skipped"])
    assert {row["provider"] for row in rows if row["skipped"]} == {"F.batch_norm"}
