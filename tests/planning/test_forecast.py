"""Forecasts against sums by hand, and steps that fill so many minutes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.config.options import resolve
from gencond_fast.errors import InputError
from gencond_fast.planning.calibrate import Condensation, Unit, pace, phases
from gencond_fast.planning.calibrate_students import Evaluation, Students
from gencond_fast.planning.forecast import condensing_seconds, evaluation_seconds, fitted
from gencond_fast.planning.recording import Span
from gencond_fast.store.spec import StoreSpec

SPEC = StoreSpec("pixels", 10, 258, 3, 32, width=8, code_channels=8, code_size=32)


def measured(match: int = 4000, trajectory: int = 0) -> Condensation:
    """A short run of 20 s and a millisecond an image, half a second and two seconds a step."""
    units = (
        Unit("start", "sample", 0.001, 1000, 10_000),
        Unit("networks", "networks", 1.0, 6, 660),
        Unit("condensing", "match", 0.5, 20, match),
        Unit("condensing", "trajectory", 2.0, 5 if trajectory else 0, trajectory),
        Unit("condensing", "checkpoints", 0.05, 1, match // 100),
    )
    seconds = {"start": 5.0, "networks": 8.0, "condensing": 22.0, "finish": 1.0}
    steps = (match, trajectory)
    return Condensation(122_880, SPEC, steps, 50_000, "cpu", seconds, units, 0.001, 10**9, 0)


def test_phases_are_all_of_the_time():
    spans = [
        Span("feature networks", 5.0, 13.0, []),
        Span("real statistics", 14.0, 20.0, []),
        Span("expert 1 of 1, epochs", 21.0, 25.0, []),
        Span("matching", 25.5, 40.0, []),
        Span("label networks", 40.0, 43.0, []),
        Span("soft labels", 43.0, 44.0, []),
    ]
    found = phases(spans, 2.0, 45.5)
    assert list(found.values()) == [3.0, 8.0, 8.5, 4.0, 14.5, 4.0, 1.5]
    assert sum(found.values()) == 45.5 - 2.0


def test_what_compiles_is_no_step_like_the_others():
    assert pace([(1, 9.0), (1, 1.0), (1, 3.0)]) == 2.0
    assert pace([(256, 9.0), (256, 2.56), (128, 1.28), (1, 0.9)]) == 0.01
    assert pace([(2, 9.0)]) == 4.5


def test_a_condensation_against_a_sum_by_hand():
    assert condensing_seconds(measured()) == {
        "start": 5.0 + 9.0,
        "networks": 8.0 + 654 * 1.0,
        "condensing": pytest.approx(22.0 + 3980 * 0.5 + 39 * 0.05),
        "finish": 1.0,
    }


STORED = Students("stored", first=12.0, epoch=2.0, steps=10, testing=10.0)
RANDOM = Students("random", first=7.0, epoch=0.05, steps=1, testing=10.0)


def evaluated(*students: Students, kept: bool = True, **options) -> float:
    tested = Evaluation(4.0, students, decoded=10_000, kept=kept, memory=10**9, device_memory=0)
    config = EvaluateConfig(run="", data="", epochs=100, **options)
    return evaluation_seconds(tested, config, measured())


def test_an_evaluation_against_a_sum_by_hand():
    # three students of each kind, 100 epochs and a test of 10 s; images are decoded for 10 s; those
    # of the random images have as many steps, in ten times as many epochs
    stored, random = 3 * (200.0 + 10.0), 3 * (50.0 + 10.0)
    alone = evaluated(STORED)
    assert alone == pytest.approx(4.0 + stored + 10.0 + 10.0)
    both = evaluated(STORED, RANDOM, baselines=("random",))
    assert both - alone == pytest.approx(random + 6.95)
    assert evaluated(STORED, kept=False) - alone == pytest.approx(2 * 10.0)
    assert evaluated(STORED, without_augmentation=True) - alone == pytest.approx(stored)
    # all real images, in batches of the same size, decoded for each student in each epoch
    full = 3 * (100 * math.ceil(50_000 / 256) * 0.2 + 10.0) + 300 * 50_000 * 0.001
    assert evaluated(STORED, baselines=("full",)) - alone == pytest.approx(full)


def steps(match: int, trajectory: int, *, check: bool = False) -> Config:
    training = {
        "training": {"steps": match, "check": check},
        "trajectory": {"steps": trajectory},
    }
    return resolve({"data": "", "out": ""} | training)


@given(minutes=st.floats(15.0, 1e5), trajectory=st.sampled_from([0, 600]))
def test_fitted_steps_fill_the_minutes_and_keep_their_ratio(minutes: float, trajectory: int):
    found = fitted(steps(4000, trajectory), measured(4000, trajectory), minutes, spent=20.0)
    match, later = found.training.steps, found.trajectory.steps
    assert found == steps(match, later)
    assert abs(later - match * trajectory / 4000) <= 1
    seconds = 20.0 + sum(condensing_seconds(measured(match, later)).values())
    # a step of each kind and a checkpoint are lost where numbers are rounded down
    assert seconds - 0.06 <= 0.95 * 60 * minutes <= seconds + 0.5 + 2.0 + 0.06


def test_the_closing_check_has_a_tenth_of_what_comes_before_it():
    alone = fitted(steps(4000, 0), measured(4000, 0), 30.0, spent=20.0)
    checked = fitted(steps(4000, 0, check=True), measured(4000, 0), 33.0, spent=20.0)
    assert abs(checked.training.steps - alone.training.steps) <= 1


def test_minutes_that_are_too_few_are_refused_with_those_that_are_needed():
    with pytest.raises(InputError, match=r"give 12\.[0-9] minutes or more") as told:
        fitted(steps(4000, 0), measured(), 5.0, spent=10.0)
    needed = float(str(told.value).partition("give ")[2].split()[0])
    assert fitted(steps(4000, 0), measured(), needed, spent=10.0).training.steps >= 1
