"""Image codecs, and what one more image costs where all images share their headers.

Headers, tables and containers are the same for all images of one size and quality, and at 32 pixels
they outweigh the picture. A set of images needs them once.
"""

from __future__ import annotations

import io
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

CodecName = Literal["jpeg", "avif"]
_TABLES, _IMAGE = 1, 2  # Pillow's streamtype: parts of the abbreviated format, T.81 annex B.5
_MARKER = 2  # bytes of one that begins or ends a JPEG stream
_COMMON = (1, 2)  # AV1 units that are the same for all images: sequence header, delimiter


class Coded(NamedTuple):
    """One image as a file.

    Attributes:
        file: a whole one, which any reader of its format decodes.
        own: bytes of it that no other image of this size and quality has.
    """

    file: bytes
    own: int

    @property
    def shared(self) -> int:
        """Bytes that all images of this size and quality have in common."""
        return len(self.file) - self.own


def encode(codec: CodecName, pixels: np.ndarray, quality: int, *, usual: bool = False) -> Coded:
    """Encodes one image.

    `jpeg`: colour subsampled 4:2:0; shared are the quantisation and Huffman tables (ITU T.81, annex
    B.5). `avif`: colour in full (4:4:4), the slowest search; shared is all but its AV1 frame.

    Args:
        codec: which.
        pixels: uint8 [S, S, channels], 1 or 3 channels.
        quality: from 1 to 100, as Pillow takes it.
        usual: take AVIF as Pillow writes it where nobody asks for more (4:2:0, speed 6).
    """
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _jpeg(picture, quality) if codec == "jpeg" else _avif(picture, quality, usual)


def decode(file: bytes, channels: int) -> np.ndarray:
    """The pixels of a file, uint8 [S, S, channels]."""
    with Image.open(io.BytesIO(file)) as picture:
        array = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return array.reshape(*array.shape[:2], channels)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _jpeg(picture: Image.Image, quality: int) -> Coded:
    options: dict[str, Any] = {"quality": quality}
    if picture.mode == "RGB":
        options["subsampling"] = "4:2:0"
    tables = _saved(picture, "JPEG", streamtype=_TABLES, **options)
    own = _saved(picture, "JPEG", streamtype=_IMAGE, **options)
    # joined they are an ordinary file; the one ends and the other begins with a marker
    return Coded(tables[:-_MARKER] + own[_MARKER:], len(own) - _MARKER)


def _avif(picture: Image.Image, quality: int, usual: bool) -> Coded:
    options: dict[str, Any] = {"quality": quality, "max_threads": 1}
    if not usual:
        subsampling = "4:4:4" if picture.mode == "RGB" else "4:0:0"
        options |= {"subsampling": subsampling, "speed": 0}
    file = _saved(picture.convert("RGB"), "AVIF", **options)
    return Coded(file, sum(size for kind, size in _units(_content(file)) if kind not in _COMMON))


def _content(file: bytes) -> bytes:
    """Of the box `mdat` of an AVIF file (ISO/IEC 14496-12, 4.2): the AV1 stream."""
    start = 0
    while file[start + 4 : start + 8] != b"mdat":
        start += int.from_bytes(file[start : start + 4], "big")
    return file[start + 8 : start + int.from_bytes(file[start : start + 4], "big")]


def _units(stream: bytes) -> list[tuple[int, int]]:
    """Kind and bytes, header included, of the units of an AV1 stream (its specification, 5.3)."""
    found, start = [], 0
    while start < len(stream):
        head = stream[start]
        place = start + 1 + (head >> 2 & 1)
        size = shift = 0
        while True:  # a number in groups of seven bits, the lowest first
            size |= (stream[place] & 127) << shift
            shift, place = shift + 7, place + 1
            if stream[place - 1] < 128:
                break
        found.append((head >> 3 & 15, place - start + size))
        start = place + size
    return found
