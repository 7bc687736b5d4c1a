"""A picture of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import open_source
from gencond_fast.exporting.figures import GRID_COLUMNS, GRID_ROWS, real_grid, save_png

_LARGEST_SIDE = 96
_MAX_BYTES = 256 * 1024**2


def write_grid(
    data: str,
    classes: Sequence[str] | None,
    path: Path,
    image_size: int | None = None,
    label_column: str | None = None,
) -> None:
    """Writes a PNG of random training images, one row a class: the first 20 classes.

    Images that cannot be decoded are left out.

    Args:
        data: path or known name.
        classes: names of the classes to show, None for all.
        path: the file to write.
        image_size: side of one picture in pixels; None keeps the data's own up to 96.
        label_column: the column of labels of a table; None looks for one.

    Raises:
        InputError: the data cannot be used.
        OSError: the file cannot be written.
    """
    options: dict[str, Any] = {"label_column": label_column, "on_bad_image": "skip"}
    source = open_source(data, classes=classes, **options)
    if len(source.class_names) > GRID_ROWS:
        names = source.class_names[:GRID_ROWS]
        source = open_source(data, classes=names, **options)
    sample = draw_sample(
        source,
        image_size=image_size or min(source.native_size, _LARGEST_SIDE),
        per_class=GRID_COLUMNS,
        max_bytes=_MAX_BYTES,
        seed=0,
    )
    save_png(real_grid(sample.images, sample.labels, source.titles), path)
