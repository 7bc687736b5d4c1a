"""Transparent images on an opaque ground."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gencond_fast.config import Transparency

_GRAY = ("1", "L", "LA", "La")
_LEVELS = {"white": 255, "black": 0}


def opaque(image: Image.Image, transparency: Transparency) -> Image.Image:
    """An image without its transparency, which may be a channel, of a palette, or one colour.

    Args:
        image: of any mode, loaded.
        transparency: the ground that shows through: `white` or `black`; `ignore` takes the colours
            under transparent pixels as they are stored, which are often black.
    """
    if transparency == "ignore" or not image.has_transparency_data:
        return image
    level = _LEVELS[transparency]
    if image.mode.startswith("I"):
        return _without_colour(image, level)
    gray = image.mode in _GRAY
    with_alpha = image.convert("LA" if gray else "RGBA")
    mode = "L" if gray else "RGB"
    ground = Image.new(mode, image.size, level if gray else (level, level, level))
    ground.paste(with_alpha.convert(mode), mask=with_alpha.getchannel("A"))
    return ground


def _without_colour(image: Image.Image, level: int) -> Image.Image:
    """16-bit gray, one value of which is transparent."""
    value = image.info.get("transparency")
    pixels = np.array(image)
    if isinstance(value, int):
        pixels[pixels == value] = 257 * level
    return Image.fromarray(pixels)
