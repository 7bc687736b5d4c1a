"""Results as CSV: a rerun replaces the rows of its own cases and leaves all others."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.breakdown import PARTS
from gencond_fast.system.files import write_text

# every other column tells cases apart, but for seconds of something, which end in "_s"
MEASURED = (
    "median_ms",
    "lower_ms",
    "upper_ms",
    "rounds",
    "peak_mb",
    "floor_ms",
    "of_floor",
    "of_read",
    "of_copy",
    "steps_per_second",
    "images_per_second",
    *(f"{part}_ms" for part in PARTS),
    "per_core",
    "of_dataloader",
    "cpu_ms_an_image",
    "step_ms",
    "seconds",
    "peak_rss_mb",
    "went_on_from_step",
    "last_step",
    "accuracy",
    "std",
    "first_batch_ms",
    "waiting",
    "bytes_a_file",
    "skipped",
    "checked_N",
    "gflops",
    "gbytes",
    "predicted",
    "actual",
    "ratio",
    "bytes_per_image",
    "psnr_db",
    "command",
)

Row = Mapping[str, object]


def merge(old: Sequence[Row], new: Sequence[Row]) -> list[dict[str, object]]:
    """The old rows, those of a new row's key replaced in their places, then the other new ones."""
    rows = {_key(row): dict(row) for row in old}
    rows |= {_key(row): dict(row) for row in new}
    return list(rows.values())


def update(path: Path, rows: Sequence[Row]) -> None:
    """Merges rows into the file, which appears whole or not at all."""
    old: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            old = list(csv.DictReader(file))
    merged = merge(old, rows)
    columns = list(dict.fromkeys(column for row in merged for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def _key(row: Row) -> tuple[tuple[str, str], ...]:
    # an empty cell is no column: files keep the union of all rows' columns
    cells = ((name, "" if value is None else str(value)) for name, value in row.items())
    return tuple(sorted((name, text) for name, text in cells if text and not _measured(name)))


def _measured(column: str) -> bool:
    return column in MEASURED or column.endswith("_s")
