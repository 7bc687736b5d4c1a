"""`condense --list-options`: every option that `--set` takes."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

import click

from gencond_fast.config import Config
from gencond_fast.config.describe import Option, describe_options

_WIDEST = 100


def list_options(context: click.Context, parameter: click.Parameter, wanted: Any) -> None:
    """Prints the options and ends the program, if that is asked for."""
    if not wanted or context.resilient_parsing:
        return
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    click.echo("\n".join(_lines(option, width) for option in describe_options(Config)))
    context.exit()


def _lines(option: Option, width: int) -> str:
    default = f" (default {option.default})" if option.default else ""
    text = textwrap.fill(
        option.text.replace("`", ""), width, initial_indent="    ", subsequent_indent="    "
    )
    return f"{option.name}: {option.type}{default}\n{text}"
