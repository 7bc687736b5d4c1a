"""The command that a report gives for a run makes the same options again."""

from __future__ import annotations

import shlex
from typing import Any

import command_line
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.cli.main import cli
from gencond_fast.config import METHODS, PRESETS, Config
from gencond_fast.config.options import parse, resolve
from gencond_fast.errors import InputError
from gencond_fast.reporting.command import condense_command, show_command


def parsed(arguments: list[str]) -> Config:
    """The config that the program would make of these arguments."""
    from gencond_fast.cli import condense as cli_condense

    assert arguments[0] == "condense"
    given: dict[str, Any] = dict(command_line.parsed(cli, "condense", arguments[1:]).params)
    given.pop("quiet")
    given.pop("minutes")
    given.pop("no_check")
    steps, labels = given.pop("steps"), given.pop("soft_labels")
    first: dict[str, Any] = {"out": given.pop("out")}
    first |= {"training": {"steps": steps}} if steps is not None else {}
    first |= {"store": {"soft_labels": labels}} if labels is not None else {}
    epsilon, delta = given.pop("dp_epsilon"), given.pop("dp_delta")
    first |= {"privacy": {"epsilon": epsilon, "delta": delta}} if epsilon is not None else {}
    return cli_condense.resolved(first, **given)


def check(config: Config) -> None:
    arguments = condense_command(config, data=config.data, out=config.out)
    assert parsed(arguments) == config
    assert shlex.split(show_command(arguments).replace("\\\n", "")) == ["gencond-fast", *arguments]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_and_method(preset, method):
    check(resolve({"data": "digits", "out": "run"}, preset=preset, method=method))


@pytest.mark.parametrize("networks", [{}, {"random": 2, "width": 128, "num_augmentations": 7}])
def test_a_private_run(networks):
    privacy = {"epsilon": 4.5, "delta": 1e-6, "clip": 0.5}
    layer = {"data": "digits", "out": "run", "privacy": privacy, "networks": networks}
    check(resolve(layer, preset="quick"))


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "bytes": st.integers(1, 10**9),
        "seed": st.integers(0, 2**40),
        "val_fraction": st.floats(1e-9, 1, exclude_max=True),
        "classes": st.lists(NAMES, min_size=2, max_size=4, unique=True),
        "image_size": st.integers(4, 1024),
        "compile": st.sampled_from(["auto", "on", "off"]),
        "on_bad_image": st.sampled_from(["error", "skip"]),
        "networks": st.fixed_dictionaries(
            {},
            optional={
                "real_per_class": st.none() | st.integers(1, 10**6),
                "augmentation": st.lists(
                    st.sampled_from(["crop", "flip", "color"]), min_size=1, unique=True
                ),
            },
        ),
        "losses": st.fixed_dictionaries(
            {},
            optional={
                "discrepancies": st.dictionaries(
                    st.sampled_from(["mean", "cf", "mmd"]), st.floats(1e-12, 1e12), min_size=1
                ),
                "intra": st.floats(-1e3, 1e3),
                "temperature": st.floats(1e-12, 1e12),
            },
        ),
        "store": st.fixed_dictionaries({}, optional={"format": st.sampled_from(["dct", "pixels"])}),
        "training": st.fixed_dictionaries({}, optional={"steps": st.integers(0, 10**6)}),
    },
)


@given(CHANGES)
def test_any_options(changes):
    try:
        config = parse(Config, {"data": "digits", "out": "my run"} | changes)
    except InputError:
        return
    check(config)


def test_only_what_differs_is_said():
    config = parse(Config, {"data": "digits", "out": "run", "ipc": 1, "losses": {"intra": 0.5}})
    assert condense_command(config, data="digits", out="run") == [
        *("condense", "--data", "digits", "--out", "run"),
        *("--ipc", "1", "--set", "losses.intra=0.5"),
    ]
