"""`condense --list-options` and the flags that stand for options."""

from __future__ import annotations

import pytest
from command_line import TINY, call, options_of, refused

from gencond_fast.config import PRESET_TEXTS, Config
from gencond_fast.config.describe import describe_options


def test_every_option_is_listed_with_its_type_and_default():
    listed = call("condense", "--list-options")
    assert (listed.code, listed.err) == (0, "")
    assert "training.match_lr: number > 0 (default 0.001)\n    peak learning rate" in listed.out
    lines = listed.out.splitlines()
    for option in describe_options(Config):
        assert any(line.startswith(f"{option.name}: {option.type}") for line in lines)
    assert max(map(len, lines)) <= 100 or any("list of" in line for line in lines)


def test_help_says_what_each_preset_does():
    shown = " ".join(call("condense", "--help").out.split())
    for name, text in PRESET_TEXTS.items():
        assert f"{name}: {text}" in shown


@pytest.mark.parametrize("format", ["dct", "pixels"])
def test_format_is_an_option(tmp_path, format):
    run = tmp_path / "run"
    done = call(
        *("condense", "--data", "digits", "--out", run, *TINY, "--steps", 0, "--format", format)
    )
    assert done.code == 0, done.err
    assert options_of(run)["store"]["format"] == format
    assert f"format {format}" in done.out


def test_an_assignment_goes_over_the_flag(tmp_path):
    run = tmp_path / "run"
    line = ("condense", "--data", "digits", "--out", run, *TINY, "--steps", 0)
    done = call(*line, "--format", "dct", "--set", "store.format=pixels")
    assert done.code == 0, done.err
    assert options_of(run)["store"]["format"] == "pixels"


def test_an_unknown_format_is_refused(tmp_path):
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", "--format", "jpeg")
    assert done.code == 2
    assert "'jpeg' is not one of 'dct', 'generator', 'pixels'" in done.err


def test_a_generator_of_noise_without_steps_is_refused(tmp_path):
    line = ("condense", "--data", "digits", "--out", tmp_path / "run", "--format", "generator")
    line += ("--set", "training.init=noise")
    refused(call(*line, "--steps", 0), "training.steps is 0, and samples that do not start as real")
    assert not (tmp_path / "run").exists()
