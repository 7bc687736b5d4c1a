"""The commands that look at data: `data check` and `data info`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gencond_fast.api import absolute
from gencond_fast.cli.shared import (
    check_json,
    classes_option,
    deliver,
    explained,
    label_column_option,
    make_reporter,
    quiet_option,
)
from gencond_fast.reporting.text import print_plain
from gencond_fast.system.machine import own_cores
from gencond_fast.system.progress import printable
from gencond_fast.system.words import counted

if TYPE_CHECKING:
    from gencond_fast.data.health.check import CheckReport

_EXAMPLES_SHOWN = 3
_BAD_SHOWN = 20


@click.group()
def data() -> None:
    """Look at a data set before condensing it."""


@data.command(
    **explained(
        "Decode every image once, and list the images that cannot be decoded or are unusual. "
        "--on-bad-image skip uses the list. Exit code 1 if an image cannot be decoded, else 0.",
        "  gencond-fast data check /data/imagenet\n"
        "  gencond-fast data check /data/imagenet --sample 5000\n"
        "  gencond-fast data check photos.tar --workers 4 --json check.json",
    )
)
@click.argument("path")
@classes_option
@label_column_option
@click.option(
    "--workers", type=click.IntRange(min=1), help="Decoding processes (default: one per core)."
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    help="Check so many random images in place of all; this leaves no list.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which images these are.")
@click.option("--json", "file", type=Path, help="Write all findings to this file.")
@quiet_option
def check(
    path: str,
    classes: tuple[str, ...] | None,
    label_column: str | None,
    workers: int | None,
    sample: int | None,
    seed: int,
    file: Path | None,
    quiet: bool,
) -> int:
    """Checks a data set, prints the findings and keeps the list of bad images, if all were read."""
    check_json(file)
    from gencond_fast.data.health.badlist import bad_list_path, write_bad_list
    from gencond_fast.data.health.check import check as run
    from gencond_fast.data.health.check import sample_of
    from gencond_fast.data.health.describe import open_parts

    opened, splits = open_parts(absolute(path), classes, label_column)
    for note in opened.notes:
        print(printable(note))
    chosen = splits if sample is None else sample_of(splits, sample, seed)
    report = run(chosen, workers=workers or own_cores(), reporter=make_reporter(quiet))
    there = {name: len(split) for name, split in splits.items()}
    values = {"data": absolute(path), **asdict(report), "of": there}
    deliver(file, values, partial(_print, report, there))
    if sample is not None:
        print("no list for --on-bad-image skip: leave out --sample to have one")
        return 1 if report.bad else 0
    place = bad_list_path(opened.digest, None if classes is None else opened.class_names)
    write_bad_list(place, report.bad_list)
    print(f"list for --on-bad-image skip: {place}")
    return 1 if report.bad else 0


@data.command(
    **explained(
        "Print the number of images and classes and the image sizes, without decoding all images.",
        "  gencond-fast data info /data/imagenet\n"
        "  gencond-fast data info photos.tar --classes cats,dogs --grid photos.png",
    )
)
@click.argument("path")
@classes_option
@label_column_option
@click.option("--grid", type=Path, help="Write a picture of some images of each class (PNG).")
@click.option("--image-size", type=click.IntRange(4, 1024), help="Side of a picture in the grid.")
def info(
    path: str,
    classes: tuple[str, ...] | None,
    label_column: str | None,
    grid: Path | None,
    image_size: int,
) -> None:
    """Describes a data set."""
    from gencond_fast.data.health.describe import describe

    print_plain(describe(absolute(path), classes, label_column))
    if grid is not None:
        from gencond_fast.reporting.data import write_grid

        write_grid(absolute(path), classes, grid, image_size, label_column)
        print(f"grid: {grid}")


def _print(report: CheckReport, there: dict[str, int]) -> None:
    for name, images in there.items():
        read = report.images.get(name, 0)
        print(
            f"{name}: {counted(images, 'image')}{'' if read == images else f', {read:,} checked'}"
        )
    print(f"unreadable: {len(report.bad):,}")
    for entry in report.bad[:_BAD_SHOWN]:
        print(f"  {entry.where} {entry.reason}")
    if len(report.bad) > _BAD_SHOWN:
        print(f"  and {len(report.bad) - _BAD_SHOWN:,} more; --json FILE has them all")
    kinds = Counter(each.kind for each in report.odd)
    print(f"unusual: {len({each.where for each in report.odd}):,}")
    for kind, count in kinds.most_common():
        print(f"  {kind}: {count:,}")
        for each in [each for each in report.odd if each.kind == kind][:_EXAMPLES_SHOWN]:
            print(f"    {each.where}{f' ({each.seen})' if each.seen else ''}")
