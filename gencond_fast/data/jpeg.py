"""JPEG headers, read without a decoder: which files every decoder reads alike."""

from __future__ import annotations

import struct

from gencond_fast.data.decode import MAX_PIXELS, open_image, orientation
from gencond_fast.data.skipping import BadImage

_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, all Huffman-coded
_SCAN, _EXIF, _ADOBE = 0xDA, 0xE1, 0xEE
_YCC = 1
_SEGMENT, _FRAME = struct.Struct(">BBH"), struct.Struct(">BHHB")


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG that needs no second thought, None for any other bytes.

    That is: it ends as a whole one does, is gray or YCbCr of 8 bits, Huffman-coded, upright and
    not too large. Most of what is cut short is told apart by this, and all other formats.
    """
    if not (data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")):
        return None
    try:
        size, tagged = _frame(data)
    except (struct.error, IndexError):  # the header is cut short
        return None
    if size is None or not 0 < size[0] * size[1] <= MAX_PIXELS:
        return None
    return None if tagged and _turned(data) else size


def _turned(data: bytes) -> bool:
    """Whether Pillow, which decides, would turn the image, or cannot tell."""
    try:
        return orientation(open_image(data, "")) != 1
    except BadImage:
        return True


def _frame(data: bytes) -> tuple[tuple[int, int] | None, bool]:
    """Width and height, None if it is not plain; and whether it may say how it is turned."""
    size, tagged, at = None, False, 2
    while True:
        lead, marker, length = _SEGMENT.unpack_from(data, at)
        if lead != 0xFF or not 0xC0 <= marker < 0xFF or 0xD0 <= marker < _SCAN:
            return None, tagged
        if marker == _SCAN:
            return size, tagged
        at += 4
        if marker == _EXIF:
            tagged = True
        elif marker in _FRAMES:
            bits, height, width, components = _FRAME.unpack_from(data, at)
            named = bytes(data[at + 6 + 3 * i] for i in range(components))
            if bits != 8 or components not in (1, 3) or named == b"RGB":
                return None, tagged
            size = width, height
        elif marker == _ADOBE and data[at : at + 5] == b"Adobe" and data[at + 11] != _YCC:
            return None, tagged
        at += length - 2
