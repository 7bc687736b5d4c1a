"""JPEG files without a decoder: which of them do all decoders decode alike?"""

from __future__ import annotations

import re
import struct

import numpy as np

from gencond_fast.data.decode import MAX_PIXELS, open_image, orientation
from gencond_fast.data.skipping import BadImage

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_RESTARTS = range(0xD0, 0xD8)
_SCAN, _EXIF, _ADOBE = 0xDA, 0xE1, 0xEE
_YCC = 1
_SEGMENT, _FRAME = struct.Struct(">BBH"), struct.Struct(">BHHB")
# The tag, and a type, of either byte order; or its name in XMP.
_TURN = re.compile(rb"\x01\x12\0[\x01-\x0d]|\x12\x01[\x01-\x0d]\0|Orientation")


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG that all decoders decode alike; None for any other bytes.

    Such a JPEG is gray or YCbCr of 8 bits, Huffman-coded, upright, not too large and not visibly
    cut short. If it is not progressive it has a single scan, with no marker in it but restarts and
    the end of the image, because decoders differ in whether they look behind the last line.
    """
    if not (data.startswith(_START) and data.endswith(_END)):
        return None
    try:
        found = _header(data)
    except (struct.error, IndexError):  # cut short
        return None
    if found is None:
        return None
    coding, width, height, scan = found
    if not 0 < width * height <= MAX_PIXELS:
        return None
    return (width, height) if coding == _PROGRESSIVE or _undisturbed(data, scan) else None


def _header(data: bytes) -> tuple[int, int, int, int] | None:
    """Coding, width, height and the place of the first scan; None if decoders may differ."""
    frame, at = None, 2
    while True:
        lead, marker, length = _SEGMENT.unpack_from(data, at)
        if lead != 0xFF or not 0xC0 <= marker < 0xFF or 0xD0 <= marker < _SCAN:
            return None
        if marker == _SCAN:
            return None if frame is None else (*frame, at)
        at += 4
        if marker in (_BASELINE, _EXTENDED, _PROGRESSIVE):
            bits, height, width, components = _FRAME.unpack_from(data, at)
            named = bytes(data[at + 6 + 3 * i] for i in range(components))
            if bits != 8 or components not in (1, 3) or named == b"RGB":
                return None
            frame = marker, width, height
        if marker == _ADOBE and data[at : at + 5] == b"Adobe" and data[at + 11] != _YCC:
            return None
        if marker == _EXIF and _TURN.search(data, at, at + length - 2) and _turned(data):
            return None
        at += length - 2


def _turned(data: bytes) -> bool:
    """Whether Pillow, whose pixels count, would turn the image or cannot read its header."""
    try:
        return orientation(open_image(data, "")) != 1
    except BadImage:
        return True


def _undisturbed(data: bytes, scan: int) -> bool:
    """Whether the scan is followed by a single marker, not counting restarts."""
    coded = np.frombuffer(data, np.uint8, offset=scan + 2)
    after = coded[np.flatnonzero(coded[:-1] == 0xFF) + 1]
    markers = (after != 0) & ((after < _RESTARTS.start) | (after >= _RESTARTS.stop))
    return np.count_nonzero(markers) == 1
