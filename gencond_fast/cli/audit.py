"""The command that asks which images a condensed file was made from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from gencond_fast.api import absolute
from gencond_fast.cli.shared import (
    MODELS,
    bad_image_option,
    check_json,
    deliver,
    device_option,
    explained,
    json_option,
    label_column_option,
    make_reporter,
    quiet_option,
    reader_option,
    set_option,
    test_split_option,
    transparency_option,
)
from gencond_fast.config import AuditConfig
from gencond_fast.config.options import parse, parse_assignments
from gencond_fast.reporting.text import print_audit


@click.command(
    **explained(
        "Attack a condensed file by membership inference: can networks trained on the file tell an "
        "image that it was made from (a member) from others? An attack that finds nothing does not "
        "prove privacy.",
        "  gencond-fast audit runs/c10 --data /data/cifar10\n"
        "  gencond-fast audit runs/c10 --data /data/cifar10 --shadows 16 --json audit.json",
    )
)
@click.argument("run")
@click.option("--data", required=True, help="The data that the file was condensed from.")
@click.option(
    "--shadows",
    type=int,
    help="Also run the LiRA attack, which condenses so many random halves of the training images "
    "(an even number, 6 or more). Each takes as long as the run itself. Default: none.",
)
@click.option("--model", help=f"Architecture of the students (default convnet3): {MODELS}")
@click.option(
    "--protocol",
    type=click.Choice(["dc", "modern", "soft"]),
    help="How students are trained, as in evaluate (default dc).",
)
@click.option("--seeds", type=int, help="Students of the file (default 3); each shadow has one.")
@click.option("--epochs", type=int, help="Training epochs (default 300).")
@click.option(
    "--images", type=int, help="Most members and most non-members to ask about (default 10000)."
)
@test_split_option
@label_column_option
@transparency_option
@bad_image_option
@reader_option
@device_option
@json_option
@set_option("precision, compile or in_memory.")
@quiet_option
def audit(
    data: str, file: Path | None, assignments: tuple[str, ...], quiet: bool, **plain: Any
) -> None:
    """Parses the options of the audit and runs it."""
    given = {name: value for name, value in plain.items() if value is not None}
    given["data"] = absolute(data)
    config = parse(AuditConfig, given | parse_assignments(assignments))
    check_json(file)
    from gencond_fast.evaluation.auditing import audit as run

    result = run(config, make_reporter(quiet))
    deliver(file, result.to_dict(), partial(print_audit, result))
