"""What a waiting person is told, on terminals, in notebooks and in logs."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gencond_fast.system import progress
from gencond_fast.system.progress import PlainReporter, Reporter, RichReporter, choose_reporter

LOSSES = {"mean": 0.25, "intra": 0.0667, "inter": 0.0123, "images/s": 2768.0}
WORK = {"feature networks": 100.0, "real statistics": 200.0, "matching": 400.0}


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_silence_is_the_default(capsys):
    reporter = Reporter()
    reporter.message("hello")
    reporter.expect({"work": 1.0})
    with reporter.phase("work", 3) as phase:
        phase.advance(2, {"loss": 1.0})
    assert capsys.readouterr() == ("", "")


def test_lines_go_to_standard_error(capsys):
    reporter = PlainReporter(every=0.0)
    reporter.message("hello [bold]")
    with reporter.phase("work", 5, done=2) as phase:
        phase.advance()
        phase.advance(2, {"loss": 0.123456, "images/s": 1234.5})
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    assert (first, second) == ("hello [bold]", "work 3/5")
    assert third.startswith("work 5/5  loss 0.1235")
    assert "images/s 1,23" in third


def test_lines_come_seldom_but_the_last_one_always(capsys):
    with PlainReporter(every=3600.0).phase("work", 1000) as phase:
        for _ in range(1000):
            phase.advance()
    assert capsys.readouterr().err.splitlines() == ["work 1000/1000"]


def test_phases_are_numbered_and_both_times_left_are_told(capsys, clock):
    reporter = PlainReporter(every=0.0)
    reporter.expect(WORK)
    with reporter.phase("feature networks", 10) as phase:
        clock.now += 0.5
        phase.advance()  # the speed is not known yet
        clock.now += 9.5
        phase.advance(4)
        clock.now += 10.0
        phase.advance(5)
    with reporter.phase("matching", 40, done=20) as phase:  # the statistics were in the cache
        clock.now += 40.0
        phase.advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "1 of 3 · feature networks 1/10",
        # 5 of 10 in 10 s; 50 of 700 units of work in 10 s, so 600 more take 120 s
        "1 of 3 · feature networks 5/10  0:00:10 left, whole run 0:02:10",
        "1 of 3 · feature networks 10/10",
        "3 of 3 · matching 30/40  0:00:40 left",
    ]


def test_the_time_of_the_phases_to_come_follows_all_that_was_done(capsys, clock):
    reporter = PlainReporter(every=0.0)
    reporter.expect(WORK)
    with reporter.phase("feature networks", 1) as phase:
        clock.now += 10.0
        phase.advance()
    with reporter.phase("real statistics", 2) as phase:
        clock.now += 30.0
        phase.advance()
    # 200 units in 40 s, so that the matching of 400 takes 80 s
    assert capsys.readouterr().err.splitlines()[-1].endswith("0:00:30 left, whole run 0:01:50")


def test_a_bar_on_a_terminal():
    screen = io.StringIO()
    reporter = RichReporter(Console(file=screen, force_terminal=True, width=120))
    reporter.message("50% [of] it")
    with reporter.phase("work", 4, done=1) as phase:
        phase.advance(3, {"mean": 0.25})
    shown = screen.getvalue()
    assert "50% [of] it" in shown
    assert "work" in shown
    assert "4/4" in shown
    assert "mean 0.25" in shown


def line_at(width, clock):
    """The line of a phase under way, as a terminal of that width shows it at last."""
    screen = io.StringIO()
    reporter = RichReporter(Console(file=screen, force_terminal=True, width=width))
    reporter.expect(WORK)
    with reporter.phase("real statistics", 40000) as phase:
        clock.now += 60.0
        phase.advance(12000, LOSSES)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert all(len(line) <= width for line in lines)
    return lines[-1]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_bar_count_and_time_left_are_there_at_any_width(width, clock):
    line = line_at(width, clock)
    assert re.search(r"2 of 3 · real statistics +━+ ?[╸╺━]*.* 12000/40000 0:02:20 left", line)


def test_loss_terms_make_room_first_then_the_time_of_the_whole_run(clock):
    wide, usual, narrow = (line_at(width, clock) for width in (140, 80, 60))
    assert "mean 0.25  intra 0.0667" in wide
    assert "whole run" in wide
    assert "whole run" in usual
    assert "mean" not in usual
    assert "whole run" not in narrow


def test_nothing_is_shown_of_a_phase_without_work():
    screen = io.StringIO()
    with RichReporter(Console(file=screen, force_terminal=True)).phase("work", 0):
        pass
    assert screen.getvalue() == ""


@pytest.mark.parametrize(
    ("notebook", "widgets", "kind"),
    [(False, True, PlainReporter), (True, True, RichReporter), (True, False, PlainReporter)],
)
def test_a_notebook_with_widgets_gets_a_bar(monkeypatch, notebook, widgets, kind):
    console = Console(file=io.StringIO(), force_jupyter=notebook)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: widgets or None)
    assert type(choose_reporter()) is kind


@pytest.mark.parametrize("make", [PlainReporter, lambda: RichReporter(Console(file=io.StringIO()))])
def test_errors_inside_a_phase_pass_through(make):
    with pytest.raises(ValueError, match="inside"), make().phase("work", 2):
        raise ValueError("inside")
