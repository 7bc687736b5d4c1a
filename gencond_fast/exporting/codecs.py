"""Image codecs, and what one more image costs where all images share their headers.

Headers, tables and containers are the same for all images of one size and quality, and at 32 pixels
they outweigh the picture. A set of images needs them once. The length of each image is free as
well, though a set would have to store it: rivals of ours are a little better here than they can be.
"""

from __future__ import annotations

import io
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

CodecName = Literal["jpeg", "avif"]
_SCAN, _MARKER = 0xDA, 2  # a JPEG marker, and the bytes of one
_FRAME = 6  # the AV1 unit that differs from image to image
Tuning = Literal["eye", "error"]


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


def encode(codec: CodecName, pixels: np.ndarray, quality: int) -> Coded:
    """Encodes one image.

    `jpeg`: colour subsampled 4:2:0; shared is all but the coded scan (ITU T.81, annex B).
    `avif`: colour in full (4:4:4), the slowest search; shared is all but the AV1 frame.

    Args:
        codec: which.
        pixels: uint8 [S, S, channels], 1 or 3 channels.
        quality: from 1 to 100, as Pillow takes it.
    """
    return jpeg(pixels, quality) if codec == "jpeg" else avif(pixels, quality)


def jpeg(pixels: np.ndarray, quality: int) -> Coded:
    """As `encode`."""
    picture = as_picture(pixels)
    colour = {"subsampling": "4:2:0"} if picture.mode == "RGB" else {}
    file = saved(picture, "JPEG", quality=quality, **colour)
    place = _MARKER
    while file[place + 1] != _SCAN:
        place += _MARKER + int.from_bytes(file[place + 2 : place + 4])
    start = place + _MARKER + int.from_bytes(file[place + 2 : place + 4])
    return Coded(file, len(file) - start - _MARKER)


def avif(
    pixels: np.ndarray,
    quality: int,
    *,
    subsampling: str = "4:4:4",
    speed: int = 0,
    tuning: Tuning = "eye",
) -> Coded:
    """As `encode`, with more to choose from.

    Args:
        pixels: uint8 [S, S, channels], 1 or 3 channels.
        quality: from 1 to 100.
        subsampling: of colour; gray images have none.
        speed: of the search, from 0, the slowest, to 10.
        tuning: what the encoder minimises: its own measure of what the eye sees, as it does
            where nobody asks for more, or the squared error.
    """
    picture = as_picture(pixels)
    options: dict[str, Any] = {"subsampling": subsampling if picture.mode == "RGB" else "4:0:0"}
    if tuning == "error":
        options["advanced"] = {"tune": "psnr"}
    options |= {"quality": quality, "speed": speed, "max_threads": 1}
    file = saved(picture.convert("RGB"), "AVIF", **options)
    return Coded(file, sum(size for kind, size in _units(_content(file)) if kind == _FRAME))


def decode(file: bytes, channels: int) -> np.ndarray:
    """The pixels of a file, uint8 [S, S, channels]."""
    with Image.open(io.BytesIO(file)) as picture:
        array = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return array.reshape(*array.shape[:2], channels)


def as_picture(pixels: np.ndarray) -> Image.Image:
    """Of uint8 [S, S, channels]."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _content(file: bytes) -> bytes:
    """Of the box `mdat` of an AVIF file (ISO/IEC 14496-12, 4.2): the AV1 stream."""
    start = 0
    while file[start + 4 : start + 8] != b"mdat":
        start += int.from_bytes(file[start : start + 4], "big")
    return file[start + 8 : start + int.from_bytes(file[start : start + 4], "big")]


def _units(stream: bytes) -> list[tuple[int, int]]:
    """Kind and bytes, without header and size, of the units of an AV1 stream (AV1, 5.3)."""
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
        found.append((head >> 3 & 15, size))
        start = place + size
    return found
