"""Processes of their own, and watches over what runs in them."""

from __future__ import annotations

import os
import time

import pytest

from gencond_fast.config import EvaluateConfig, PlanConfig
from gencond_fast.config.options import resolve
from gencond_fast.data.classes import MissingClass
from gencond_fast.errors import InputError, RunError
from gencond_fast.planning.condensing import calibrate_condensing
from gencond_fast.planning.evaluating import calibrate_evaluation
from gencond_fast.planning.isolated import in_own_process
from gencond_fast.planning.watch import Watch
from gencond_fast.system.memory import peak_memory


def _told(word: str, began: float) -> tuple[str, int, float]:
    return word, os.getpid(), time.monotonic() - began


def _refusing(began: float) -> None:
    raise MissingClass("spoon", "there is no spoon: bend it")  # which cannot be pickled


def _dying(began: float) -> None:
    os._exit(9)


def test_a_call_comes_back_from_another_process():
    word, pid, seconds = in_own_process(_told, "yes")
    assert (word, pid == os.getpid()) == ("yes", False)
    assert 0.0 < seconds < 300.0  # its start is measured by the same clock


def _full(began: float) -> None:
    raise OSError(28, "No space left on device", "/some/file")


def test_errors_of_the_system_keep_their_number_and_file():
    with pytest.raises(OSError, match="No space left") as told:
        in_own_process(_full)
    assert (told.value.errno, told.value.filename) == (28, "/some/file")


def test_errors_come_back_as_they_are():
    with pytest.raises(InputError, match="there is no spoon: bend it"):
        in_own_process(_refusing)


def test_a_process_that_dies_is_told_of():
    with pytest.raises(RunError, match="died"):
        in_own_process(_dying)


def test_a_watch_notes_times_and_amounts(monkeypatch):
    clock = iter([10.0, 12.0, 15.0, 16.0, 20.0])
    monkeypatch.setattr("gencond_fast.planning.watch.time.monotonic", lambda: next(clock))
    watch = Watch()
    with watch.phase("work", 7) as progress:
        progress.advance(4, {"loss": 1.0})
        progress.advance(3)
    found = watch.timeline(1.0, 3.0, 6.0)
    span = found.find("work")
    assert (span.start, span.end, span.seconds) == (10.0, 16.0, 6.0)
    assert span.steps == [(4, 2.0), (3, 3.0)]
    assert found.preparing == (3.0 - 1.0) + (10.0 - 6.0)
    assert found.ended == 20.0
    assert found.like("wo") == [span]
    assert 0 < span.peak <= found.peak


def test_peak_memory_remembers_what_was_freed():
    before = peak_memory()
    taken = bytearray(64 * 2**20)
    taken[:] = b"x" * len(taken)
    high = peak_memory()
    del taken
    assert high - before > 32 * 2**20 or before > 2**30
    assert peak_memory() >= high


@pytest.mark.slow
def test_a_calibration_of_some_of_the_classes(tmp_path):
    options = {
        "bytes": 8000,
        "training": {"steps": 40},
        "networks": {"width": 8, "train_steps": 5, "random": 1, "trained": 2},
    }
    config, plan = resolve({"data": "digits", "out": ""}, options), PlanConfig(devices=(1, 64))
    evaluation = EvaluateConfig(run="", data="", epochs=2, baselines=("random",))
    found = in_own_process(calibrate_condensing, config, plan, 3, tmp_path)
    assert (found.mini.classes, found.full.classes) == (3, 10)
    assert found.mini.samples * 10 == found.full.samples * 3
    assert list(found.refused) == [64]
    students = in_own_process(calibrate_evaluation, config, evaluation, plan, tmp_path)
    assert students is not None
    assert [lesson.name for lesson in students.lessons] == ["stored", "random"]
    assert all(lesson.epoch > 0 and lesson.testing > 0 for lesson in students.lessons)
    assert 0 < students.tested < students.images == 359
