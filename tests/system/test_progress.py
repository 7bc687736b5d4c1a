"""What a waiting person is told, on terminals and in logs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gencond_fast.system.progress import PlainReporter, Reporter, RichReporter


def test_silence_is_the_default(capsys):
    reporter = Reporter()
    reporter.message("hello")
    with reporter.task("work", 3) as task:
        task.advance(2, {"loss": 1.0})
    assert capsys.readouterr() == ("", "")


def test_lines_go_to_standard_error(capsys):
    reporter = PlainReporter(every=0.0)
    reporter.message("hello [bold]")
    with reporter.task("work", 5, done=2) as task:
        task.advance()
        task.advance(2, {"loss": 0.123456, "images/s": 1234.5})
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    assert (first, second) == ("hello [bold]", "work 3/5")
    assert third.startswith("work 5/5  loss 0.1235")
    assert "images/s 1,23" in third


def test_lines_come_seldom_but_the_last_one_always(capsys):
    with PlainReporter(every=3600.0).task("work", 1000) as task:
        for _ in range(1000):
            task.advance()
    assert capsys.readouterr().err.splitlines() == ["work 1000/1000"]


def test_a_bar_on_a_terminal():
    screen = io.StringIO()
    reporter = RichReporter(Console(file=screen, force_terminal=True, width=120))
    reporter.message("50% [of] it")
    with reporter.task("work", 4, done=1) as task:
        task.advance(3, {"mean": 0.25})
    shown = screen.getvalue()
    assert "50% [of] it" in shown
    assert "work" in shown
    assert "4/4" in shown
    assert "mean 0.25" in shown


@pytest.mark.parametrize("make", [PlainReporter, lambda: RichReporter(Console(file=io.StringIO()))])
def test_errors_inside_a_task_pass_through(make):
    with pytest.raises(ValueError, match="inside"), make().task("work", 2):
        raise ValueError("inside")
