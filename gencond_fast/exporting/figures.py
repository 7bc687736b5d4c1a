"""Images for people: grids of samples, one row a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gencond_fast.store.store import StoredSet
from gencond_fast.system.files import write_atomic

GRID_ROWS = 20
GRID_COLUMNS = 12
_SIDE = 48  # pixels of a cell, at least
_GAP = 2
_FONT_SIZE = 13
_COLUMNS_KEY = "columns"  # text of a PNG that says how many pictures stand in a row


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


def cut_sheet(sheet: Image.Image, side: int) -> list[np.ndarray]:
    """The pictures of a sheet that `sample_grid` or `real_grid` has drawn, without their names.

    Args:
        sheet: as it was written by `save_png`.
        side: of the pictures, in pixels.

    Returns:
        Rows of pictures, uint8 [columns, S, S, 3] each, white where a row had fewer.

    Raises:
        ValueError: it is no such sheet.
    """
    factor = _enlargement(side)
    cell = side * factor
    columns = int(sheet.info.get(_COLUMNS_KEY, GRID_COLUMNS))
    left = sheet.width - columns * (cell + _GAP) - _GAP
    rows, rest = divmod(sheet.height - _GAP, cell + _GAP)
    if columns < 1 or left < 0 or rows < 1 or rest:
        raise ValueError(f"it is no grid of pictures of {side} pixels")
    pixels = np.asarray(sheet.convert("RGB"))[_GAP:, left:][: rows * (cell + _GAP)]
    pixels = pixels[:, : columns * (cell + _GAP)]
    cells = pixels.reshape(rows, cell + _GAP, columns, cell + _GAP, 3)
    return list(cells[:, :cell:factor, :, :cell:factor].swapaxes(1, 2))


def _enlargement(side: int) -> int:
    return max(1, -(-_SIDE // side))


def _sheet(rows: Sequence[np.ndarray], class_names: Sequence[str]) -> Image.Image:
    """Pastes rows of pictures, uint8 [K, S, S, channels] each, beside their names."""
    side = rows[0].shape[1]
    cell = side * _enlargement(side)
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
    sheet.info[_COLUMNS_KEY] = str(columns)
    return sheet


def to_picture(pixels: np.ndarray) -> Image.Image:
    """One image uint8 [S, S, 1 or 3] as a Pillow image, gray or RGB."""
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG atomically, with the texts that go with the image."""
    texts = PngInfo()
    for name, value in image.info.items():
        if isinstance(name, str) and isinstance(value, str):
            texts.add_text(name, value)
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG", pnginfo=texts))
