"""Students dealt out to ranks, one rank after another: the result of one process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gencond_fast.config import EvaluateConfig
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.evaluation import evaluate
from gencond_fast.evaluation import student_runner as runner_module


class Told(Exception):
    """What a rank told the others."""


class Telling(Ranks):
    """A rank that ends when it has told the others something."""

    def all_gather_object(self, value):
        raise Told(value)


class Hearing(Ranks):
    """The first rank, which hears what the others told before."""

    def __init__(self, told):
        super().__init__(0, 1 + len(told))
        self._told = told

    def all_gather_object(self, value):
        return [value, *(each if isinstance(value, list) else {} for each in self._told)]


@pytest.fixture
def trained(monkeypatch):
    """The seeds of training; students stay as they are at first, which hangs on their seeds."""
    trained_seeds = []

    def untrained(students, data, *, seeds, **options):
        trained_seeds.extend(seeds)
        return 1

    monkeypatch.setattr(runner_module, "train_students", untrained)
    return trained_seeds


@pytest.mark.parametrize("world", [2, 8])
def test_students_are_dealt_out(tiny_run, tmp_path, monkeypatch, trained, world):
    config = EvaluateConfig(
        run=str(tiny_run), data="digits", seeds=3, epochs=1, baselines=("random",), device="cpu"
    )
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "alone"))
    alone = evaluate(config)
    seeds = sorted(trained)
    assert len(seeds) == 6
    trained.clear()
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "dealt"))
    told = []
    for rank in range(1, world):
        with pytest.raises(Told) as ended:
            evaluate(config, None, Telling(rank, world))
        told.append(ended.value.args[0])
    assert sorted(map(len, told)) == sorted(len(range(r, 6, world)) for r in range(1, world))
    dealt = evaluate(config, None, Hearing(told))
    assert sorted(trained) == seeds
    assert [replace(row, seconds=0.0) for row in dealt.rows] == [
        replace(row, seconds=0.0) for row in alone.rows
    ]
    assert all(len(set(row.accuracies)) > 1 for row in alone.rows)
