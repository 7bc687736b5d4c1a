"""The command `report`."""

from __future__ import annotations

from pathlib import Path

import click

from gencond_fast.api import absolute
from gencond_fast.cli.shared import explained


@click.command(
    **explained(
        "Write one HTML page about finished runs: the files, pictures, accuracies (of every result "
        "that evaluate has written into a run directory), losses and features; several runs are "
        "compared. The page needs no network. accuracy.png beside it shows accuracy against "
        "bytes, one chart per data set.",
        "  gencond-fast report runs/c10\n"
        "  gencond-fast report runs/c10 --data /data/cifar10   # real images in the feature map\n"
        "  gencond-fast report runs/c10 runs/dm --out page.html",
    )
)
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--out", type=Path, help="The page to write (default: report.html in the first directory)."
)
@click.option("--data", help="The data of the runs, for real images in the feature map.")
def report(runs: tuple[str, ...], out: Path | None, data: str | None) -> None:
    """Writes the page and its chart, and prints where they are."""
    from gencond_fast.reporting.page import write_report

    for path in write_report(runs, out, None if data is None else absolute(data)):
        print(f"{path}: {path.stat().st_size:,} bytes")
