"""The closing check: students of the samples before and after, told in one line."""

from __future__ import annotations

import re

import pytest
import torch
from command_line import TINY, call

from gencond_fast.condensation import closing_check
from gencond_fast.condensation.closing_check import check_result
from gencond_fast.condensation.task import choose_image_size, open_config, open_task, set_up
from gencond_fast.config.options import resolve
from gencond_fast.store.artifact import load
from gencond_fast.store.stores import build_store
from gencond_fast.system.progress import Reporter


@pytest.fixture(scope="module")
def task(_own_cache):
    config = resolve({"data": "digits", "out": "", "device": "cpu", "val_fraction": 0.2})
    source = open_config(config, Reporter())
    return open_task(set_up(config, source, choose_image_size(config, source), Reporter()))


@pytest.fixture(scope="module")
def sets(tiny_run):
    """Coded digits, and the same samples as noise."""
    good = load(tiny_run).store
    bad = build_store(good.spec).eval()
    bad.load_images(good.images_to_storage())
    decode = bad.forward
    bad.forward = lambda index: torch.rand(decode(index).shape)
    return good, bad


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(closing_check, "_STEPS", (100, 120))


def shares(told):
    return [float(each) for each in re.findall(r"([\d.]+)%", told)]


def test_a_better_result_is_told_without_a_warning(task, sets):
    good, bad = sets
    told = check_result(task, bad, good, seconds=300.0)
    before, after = shares(told)
    assert after > before + 20
    assert "no better" not in told
    assert "held-out images" in told


def test_a_worse_result_is_warned_of(task, sets):
    good, bad = sets
    told = check_result(task, good, bad, seconds=300.0)
    before, after = shares(told)
    assert before > after + 20
    assert "no better" in told
    assert "--no-check" in told


def test_equal_sets_give_equal_students(task, sets):
    good, _ = sets
    before, after = shares(check_result(task, good, good, seconds=300.0))
    assert before == after


def test_a_short_run_is_not_checked(task, sets):
    good, bad = sets
    assert check_result(task, good, bad, seconds=0.5) is None


def test_it_leaves_the_file_as_it_is(tmp_path, monkeypatch):
    """With and without it; and a run may go on with the other choice."""
    from gencond_fast.condensation import run

    monkeypatch.setattr(run, "check_result", lambda *_: "check: told")
    contents = []
    for name, more in (("with", ()), ("without", ("--no-check",))):
        done = call("condense", "--data", "digits", "--out", tmp_path / name, *TINY, *more)
        assert done.code == 0, done.err
        assert ("check: told" in done.err) == (name == "with")
        contents.append((tmp_path / name / "condensed.safetensors").read_bytes())
    assert contents[0] == contents[1]
    done = call("condense", "--data", "digits", "--out", tmp_path / "with", *TINY, "--no-check")
    assert done.code == 0, done.err
