"""README and its neighbours: short, with links that lead somewhere and commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from command_line import parsed

import gencond_fast as gf
from gencond_fast.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LINK = re.compile(r"""(?:\]\(|src=")([^)"#\s]+)""")
COMMAND = re.compile(r"^    gencond-fast (.+)$", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not (ROOT / "CONTRIBUTING.md").exists(), reason="needs the source tree"
)

# both may go once these are there
site_to_come = pytest.mark.xfail(
    not (ROOT / "docs/index.md").exists(), reason="the pages of docs/ are still to come"
)
modules_to_come = pytest.mark.xfail(
    "IntraClassLoss" not in gf.__all__, reason="the modules of the losses are still to come"
)


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_at_most_800_words() -> None:
    assert len(readme().split()) <= 800


@site_to_come
@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file(page: str) -> None:
    links = LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    relative = [link for link in links if "://" not in link]
    assert [link for link in relative if not (ROOT / link).exists()] == []


def test_every_command_of_the_readme_has_the_options_that_it_gives() -> None:
    commands = [shlex.split(line, comments=True) for line in COMMAND.findall(readme())]
    assert len(commands) >= 5
    for name, *arguments in commands:
        try:
            parsed(cli, name, arguments)
        except click.UsageError as error:
            pytest.fail(f"gencond-fast {name}: {error.format_message()}")


@modules_to_come
def test_every_name_that_the_readme_uses_is_public() -> None:
    names = set(re.findall(r"\bgf\.(\w+)", readme()))
    assert names
    assert names <= set(gf.__all__)
