"""A close look at one image: can it be decoded, and is anything about it unusual?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image

from gencond_fast.data.contract import Load
from gencond_fast.data.decode import decode, fetch, is_gray, open_image, orientation
from gencond_fast.data.skipping import BadImage
from gencond_fast.errors import InputError

SMALLEST_SIDE = 8
LARGEST_SIDE = 10_000
LARGEST_RATIO = 10
DARKEST = 32
"""Largest value of a pixel in an image that is told as nearly black."""

_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
}
_COLOURS = {"CMYK": "CMYK", "YCCK": "CMYK", "P": "palette", "RGB": "", "YCbCr": ""}


@dataclass(frozen=True)
class Finding:
    """What a close look at one image has shown.

    Attributes:
        reason: why the image cannot be read; None where it can.
        oddities: what is unusual about it, as pairs of a kind and details.
    """

    reason: str | None
    oddities: tuple[tuple[str, str], ...] = ()


def examine(item: Load, where: str, name: str) -> Finding:
    """Reads and decodes a whole image, as a run would, and notes what is unusual about it.

    Args:
        item: returns the encoded image.
        where: names it in messages.
        name: of its file; empty where several images share a file.
    """
    try:
        data = fetch(item, where)
        pixels = decode(data, channels=3, where=where)
        odd = [*_oddities(open_image(data, where), name), *_dark(pixels)]
        return Finding(None, tuple(odd))
    except BadImage as error:
        return Finding(error.reason)
    except InputError as error:  # it is gone, or may not be read
        return Finding(str(error).removeprefix(where).strip().partition(";")[0])


def _dark(pixels: np.ndarray) -> list[tuple[str, str]]:
    """Class numbers stored as gray levels look like this; so does the night."""
    largest = int(pixels.max(initial=0))
    if largest > DARKEST:
        return []
    return [("nearly black, such as a mask or a map of labels", f"largest value {largest}")]


def _oddities(image: Image.Image, name: str) -> list[tuple[str, str]]:
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    named = _SUFFIXES.get(PurePath(name).suffix.lower())
    found = []
    if named is not None and named != kind:
        found.append((f"{kind} in a file named as {named}", ""))
    colour = "gray" if is_gray(image.mode) else _COLOURS.get(image.mode, image.mode)
    if colour:
        found.append((f"not RGB: {colour}", ""))
    turned = orientation(image)
    if turned != 1:
        found.append(("turned by its EXIF tag", f"orientation {turned}"))
    if kind != "JPEG" and getattr(image, "is_animated", False):
        found.append(("several frames, the first is used", ""))
    short, long = sorted(image.size)
    size = f"{image.width}x{image.height}"
    if short < SMALLEST_SIDE:
        found.append((f"a side below {SMALLEST_SIDE} pixels", size))
    if long > LARGEST_SIDE:
        found.append((f"a side above {LARGEST_SIDE:,} pixels", size))
    if long > LARGEST_RATIO * short:
        found.append((f"a side more than {LARGEST_RATIO} times the other", size))
    return found
