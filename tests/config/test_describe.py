"""What the list of options says is what the config classes say."""

from __future__ import annotations

import pytest
from pydantic.dataclasses import dataclass

from gencond_fast.config import AuditConfig, Config, EvaluateConfig, ScoreConfig
from gencond_fast.config.describe import Option, describe_options
from gencond_fast.config.options import flatten, parse, parse_assignments, resolve, to_plain
from gencond_fast.config.types import Positive

BASE = {"data": "digits", "out": "run"}


@dataclass
class Small:
    """A config.

    Attributes:
        first, second: two
            of a kind.
        third: another: `x`.
    """

    first: Positive
    second: float | None = None
    third: tuple[str, ...] = ("a",)


@dataclass
class Larger(Small):
    """One with a base.

    Attributes:
        fourth: last.
    """

    fourth: bool = False


def test_names_types_defaults_and_texts():
    assert describe_options(Larger) == [
        Option("first", "integer >= 1", "", "two of a kind."),
        Option("second", "number | null", "null", "two of a kind."),
        Option("third", "list of text", "[a]", "another: `x`."),
        Option("fourth", "true | false", "false", "last."),
    ]


@pytest.mark.parametrize("config", [Config, EvaluateConfig, ScoreConfig, AuditConfig])
def test_every_option_is_explained(config):
    described = describe_options(config)
    assert len({option.name for option in described}) == len(described)
    assert all(option.type for option in described)
    assert [option.name for option in described if len(option.text) < 10] == []
    assert not [option.name for option in described if "as in `Config`" in option.text]


def test_the_list_has_every_option_of_a_config_and_its_default():
    plain = flatten(to_plain(resolve(BASE)))
    described = {option.name: option for option in describe_options(Config)}
    whole = plain | {"losses.discrepancies": {"mean": 1.0}, "ipc": None}
    del whole["losses.discrepancies.mean"]
    assert described.keys() == whole.keys()
    given = [f"{o.name}={o.default}" for o in described.values() if o.default]
    assert parse(Config, BASE | parse_assignments(given)) == resolve(BASE)
