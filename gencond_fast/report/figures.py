"""Images for people: grids of samples, one row a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gencond_fast.files import write_atomic
from gencond_fast.models.store import StoredSet

GRID_ROWS = 20
GRID_COLUMNS = 12
_SIDE = 48  # pixels of a cell, at least
_GAP = 2
_FONT_SIZE = 13


def to_uint8(images: Tensor) -> np.ndarray:
    """Images float [B, channels, S, S] in [0, 1] as uint8 [B, S, S, channels]."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def sample_grid(
    store: StoredSet, class_names: Sequence[str], *, columns: int = GRID_COLUMNS
) -> Image.Image:
    """Stored samples, one row a class: the first 20 classes and up to 12 samples of each."""
    spec = store.spec
    rows, columns = min(spec.num_classes, GRID_ROWS), min(spec.per_class, GRID_COLUMNS, columns)
    index = (torch.arange(rows)[:, None] * spec.per_class + torch.arange(columns)).flatten()
    index = index.to(next(store.parameters()).device)
    pictures = np.concatenate([to_uint8(store(part)) for part in index.split(columns)])
    return _sheet(list(pictures.reshape(rows, columns, *pictures.shape[1:])), class_names)


def real_grid(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> Image.Image:
    """Real images in the same layout: uint8 [N, channels, S, S] with labels int64 [N]."""
    pictures = images.permute(0, 2, 3, 1)
    rows = range(min(len(class_names), GRID_ROWS))
    return _sheet([pictures[labels == row][:GRID_COLUMNS].numpy() for row in rows], class_names)


def _sheet(rows: Sequence[np.ndarray], class_names: Sequence[str]) -> Image.Image:
    """Pastes rows of pictures, uint8 [K, S, S, channels] each, beside their names."""
    side = rows[0].shape[1]
    cell = side * max(1, -(-_SIDE // side))
    font = ImageFont.load_default(_FONT_SIZE)
    names = [name if len(name) <= 16 else name[:15] + "…" for name in class_names[: len(rows)]]
    margin = max(int(font.getlength(name)) for name in names) + 3 * _GAP + 4
    columns = max(len(row) for row in rows)
    size = (margin + columns * (cell + _GAP) + _GAP, len(rows) * (cell + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, (name, row) in enumerate(zip(names, rows, strict=True)):
        top = _GAP + place * (cell + _GAP)
        draw.text((2 * _GAP, top + cell // 2), name, fill="black", font=font, anchor="lm")
        for column, pixels in enumerate(row):
            image = to_picture(pixels).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(image.convert("RGB"), (margin + column * (cell + _GAP), top))
    return sheet


def to_picture(pixels: np.ndarray) -> Image.Image:
    """One image uint8 [S, S, 1 or 3] as a Pillow image, gray or RGB."""
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG atomically."""
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG"))
