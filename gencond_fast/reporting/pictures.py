"""Strips of pictures, one a class, as PNG inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from gencond_fast.errors import InputError
from gencond_fast.exporting.figures import GRID_COLUMNS, GRID_ROWS, cut_sheet, to_picture, to_uint8
from gencond_fast.reporting.record import Record
from gencond_fast.store.artifact import Artifact

_LARGEST_SIDE = 64


@dataclass(frozen=True)
class Strip:
    """Pictures side by side.

    Attributes:
        source: the PNG as a data URI.
        count: pictures.
        width: of all together, in pixels.
        height: of each.
    """

    source: str
    count: int
    width: int
    height: int


@dataclass(frozen=True)
class ClassPictures:
    """Pictures of one class.

    Attributes:
        name: of the class.
        generated: stored samples.
        real: training images, None where the run has no picture of them.
    """

    name: str
    generated: Strip
    real: Strip | None


def class_pictures(record: Record, most_bytes: int) -> list[ClassPictures]:
    """The first samples of the first classes, beside the real images of the run.

    At least one class and at most 20 are shown, and no more after the first than fit; of each at
    most 12 samples, fewer where those of one class would not fit.

    Args:
        record: the run.
        most_bytes: of all strips, as text.

    Raises:
        InputError: the picture of real images is damaged.
    """
    shown: list[ClassPictures] = []
    names = record.artifact.metadata.class_names
    spec = record.artifact.metadata.store
    columns = _columns(most_bytes, min(spec.image_size, _LARGEST_SIDE), spec.channels)
    real = _real(record.directory / "real.png", spec.image_size, spec.channels)
    for label, (name, pixels) in enumerate(
        zip(names, _generated(record.artifact, columns), strict=False)
    ):
        beside = _strip(real[label][:columns]) if label < len(real) and len(real[label]) else None
        entry = ClassPictures(name, _strip(pixels), beside)
        most_bytes -= len(entry.generated.source) + (len(beside.source) if beside else 0)
        if shown and most_bytes < 0:
            break
        shown.append(entry)
    return shown


def _columns(most_bytes: int, side: int, channels: int) -> int:
    """How many pictures of one class fit, generated and real, at least two."""
    pair = 2 * side * side * channels * 4 / 3  # as text, not compressed
    return max(2, min(GRID_COLUMNS, int(most_bytes / pair)))


def _generated(artifact: Artifact, columns: int) -> Iterator[np.ndarray]:
    """Samples of one class after another: uint8 [K, S, S, channels]."""
    spec = artifact.metadata.store
    count = torch.arange(min(spec.per_class, columns))
    for label in range(min(spec.num_classes, GRID_ROWS)):
        with torch.no_grad():
            yield to_uint8(artifact.store(label * spec.per_class + count))


def _real(path: Path, side: int, channels: int) -> list[np.ndarray]:
    """The rows of the sheet of real images, uint8 [K, S, S, channels]; none without a sheet."""
    if not path.is_file():
        return []
    try:
        with Image.open(path) as sheet:
            rows = cut_sheet(sheet, side)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise InputError(
            f"{path} cannot be read as a picture ({error}): remove it, and the report does without"
        ) from None
    # the sheet is white where a class has fewer images
    return [row[~(row == 255).all((1, 2, 3)), ..., :channels] for row in rows]


def _strip(pixels: np.ndarray) -> Strip:
    """Pictures uint8 [K, S, S, channels] side by side, made smaller where they are large."""
    count, side = len(pixels), pixels.shape[1]
    image = to_picture(np.concatenate(list(pixels), axis=1))
    if side > _LARGEST_SIDE:
        side = _LARGEST_SIDE
        image = image.resize((count * side, side), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    text = base64.b64encode(file.getvalue()).decode()
    return Strip(f"data:image/png;base64,{text}", count, count * side, side)
