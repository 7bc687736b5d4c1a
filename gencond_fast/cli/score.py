"""The command that compares stored images with real ones."""

from __future__ import annotations

from dataclasses import asdict
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
from gencond_fast.config import ScoreConfig
from gencond_fast.config.options import parse, parse_assignments
from gencond_fast.reporting.text import print_scores


@click.command(
    **explained(
        "Compare the stored images with test images in the features of a network trained on the "
        "real images: coverage, density, precision, recall and the Frechet distance.",
        "  gencond-fast score runs/c10 --data /data/cifar10\n"
        "  gencond-fast score runs/c10 --data /data/cifar10 --model resnet18 --epochs 40 \\\n"
        "      --json scores.json",
    )
)
@click.argument("run")
@click.option("--data", required=True, help="The data that the file was condensed from.")
@click.option(
    "--model", help=f"The feature network (default: a ConvNet that fits the image size). {MODELS}"
)
@click.option("--width", type=int, help="Channels of a ConvNet (default 128).")
@click.option("--epochs", type=int, help="Training epochs of that network (default 20).")
@click.option("--images", type=int, help="Most stored and most test images (default 10000).")
@click.option("--k", type=int, help="k of the k nearest neighbours (default 5).")
@test_split_option
@label_column_option
@transparency_option
@bad_image_option
@reader_option
@device_option
@json_option
@set_option("precision, compile or in_memory.")
@quiet_option
def score(
    data: str, file: Path | None, assignments: tuple[str, ...], quiet: bool, **plain: Any
) -> None:
    """Parses the options of the comparison and runs it."""
    given = {name: value for name, value in plain.items() if value is not None}
    given["data"] = absolute(data)
    config = parse(ScoreConfig, given | parse_assignments(assignments))
    check_json(file)
    from gencond_fast.evaluation.beside import place_beside
    from gencond_fast.evaluation.score import score as run

    scores = run(config, make_reporter(quiet))
    place = None if file else place_beside(config)
    deliver(file, asdict(scores), partial(print_scores, scores), beside=place, quiet=quiet)
