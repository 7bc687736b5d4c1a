"""Images of more than 8 bits a channel: their real range, which a file may not say."""

from __future__ import annotations

from contextlib import closing, suppress
from itertools import chain

import numpy as np
from PIL import Image

from gencond_fast.data.decode import fetch, known_range, open_image
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.skipping import BadImage
from gencond_fast.errors import InputError

_LOOKED_AT = 64
_BITS = 12  # 10- and 12-bit data in files of 16 bits
_AT_ONCE = 8


def refuse_unscaled(images: ImageReader, data: str) -> None:
    """Refuses 16-bit images that use no more than 12 of their bits, which would come out black.

    Looks at the first image, and only if it has 16 bits at more of them.

    Args:
        images: of the training split.
        data: for the message.

    Raises:
        InputError: none of the images looked at uses more bits, and they are not all black.
    """
    if images.shape is not None or not len(images):
        return
    rows = np.unique(np.linspace(0, len(images) - 1, _LOOKED_AT).astype(np.int64))
    largest = 0
    with closing(images.split.read(rows, _AT_ONCE)) as blocks:
        for row, item in zip(rows.tolist(), chain.from_iterable(blocks), strict=False):
            if images.skip is not None and row in images.skip:
                continue
            where = images.where(row)
            with suppress(BadImage):  # what to do about it is decided where it is decoded
                found = _largest(open_image(fetch(item, where), where))
                if found is None or found >= 1 << _BITS:
                    return
                largest = max(largest, found)
    if largest:
        raise InputError(
            f"{data} has 16-bit images whose largest value is {largest:,} of 65,535 in the "
            f"{len(rows)} looked at, so they hold fewer bits than they say and would come out "
            f"black; multiply them by {65535 // _ceiling(largest)}, or store them with 8 bits."
        )


def _largest(image: Image.Image) -> int | None:
    """The largest value of an image of 16 bits; None for one of fewer, or whose range is known."""
    if not is_wide(image) or known_range(image) is not None:
        return None
    try:
        image.load()
    except Exception:  # it is met again where it is decoded
        return None
    if image.mode.startswith("I"):
        return int(np.asarray(image).max())
    return 256 * int(np.asarray(image.convert("RGB")).max())  # Pillow keeps the high bytes


def is_wide(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has 16 bits a channel in its file."""
    raw = [str(part) for tile in getattr(image, "tile", [])[:1] for part in np.atleast_1d(tile[3])]
    return image.mode.startswith("I") or any("16" in part for part in raw)


def _ceiling(value: int) -> int:
    """The largest value of so many bits."""
    return (1 << value.bit_length()) - 1
