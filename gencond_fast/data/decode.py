"""From encoded bytes to pixels: any common image becomes uint8 gray or RGB, or a clear error."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from gencond_fast.config import Transparency
from gencond_fast.data.contract import Load
from gencond_fast.data.crop import Window
from gencond_fast.data.png import without_texts
from gencond_fast.data.resize import fit
from gencond_fast.data.skipping import BadImage
from gencond_fast.data.transparency import opaque
from gencond_fast.errors import InputError

# only these parsers ever see the bytes, whatever the name of a file
FORMATS = (
    "JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "DIB", "QOI", "SGI", "PCX", "ICO",
    *(("JPEG2000",) if features.check("jpg_2000") else ()),
    *(("AVIF",) if "avif" in features.modules and features.check("avif") else ()),
)  # fmt: skip
MAX_PIXELS = 89_478_485  # from here on Pillow itself warns of a decompression bomb

_SHRINK = "make it smaller or remove it"
_GRAY_MODES = ("1", "L", "LA")
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _MAX_SAMPLE = 258, 281  # tags of TIFF
_CONTAINER_BITS = 16
_TEXT_LIMIT = "MAX_TEXT"  # in what Pillow says about a PNG with a text of over 1 MB
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    data: bytes,
    *,
    channels: int,
    where: str,
    image_size: int | None = None,
    transparency: Transparency = "white",
    window: Callable[[int, int], Window] | None = None,
) -> np.ndarray:
    """Decodes one image: its first frame, turned upright by its EXIF tag, on an opaque ground.

    16-bit gray is scaled by 255/65535 and rounded, and so is gray of fewer bits by its own range
    where a TIFF states that. 16-bit colour keeps its high byte, which is at most one level away.

    Args:
        data: the bytes of a file in one of `FORMATS`.
        channels: 1 for gray or 3 for RGB.
        where: names the image in messages.
        image_size: side of the square that the window is resized to; None keeps all pixels.
        transparency: see `transparency.opaque`.
        window: takes the width and height of the upright image and returns the window. None is the
            largest centred square; then large JPEGs may be decoded at a fraction of their size.

    Returns:
        uint8 [H, W, channels].

    Raises:
        BadImage: the bytes are no image, are cut short, or hold too many pixels.
    """
    image = open_image(data, where)
    try:
        if image_size is not None and window is None:
            _draft(image, image_size)
        image = _convert(_upright(image), channels, transparency)
    except MemoryError:  # says nothing about the image
        raise
    except Exception as error:  # parsers raise nearly anything on hostile bytes
        bare = without_texts(data) if _TEXT_LIMIT in str(error) else None
        if bare is None:
            raise _undecodable(where, error) from error
        options = {"image_size": image_size, "transparency": transparency, "window": window}
        return decode(bare, channels=channels, where=where, **options)  # type: ignore[arg-type]
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    if image_size is None:
        return pixels
    return fit(pixels, image_size, None if window is None else window(image.width, image.height))


def fetch(item: Load, where: str) -> bytes:
    """Returns the encoded bytes of an image.

    Args:
        item: returns them.
        where: names the image in messages.

    Raises:
        InputError: the file is missing or cannot be read.
        BadImage: a row of a table has no image.
    """
    try:
        return item()
    except FileNotFoundError as error:
        raise InputError(f"{where} is gone since the source was opened; restore it.") from error
    except PermissionError as error:
        raise InputError(f"{where} may not be read; give yourself permission.") from error
    except OSError as error:
        raise InputError(
            f"{where} cannot be read ({error}); replace or remove it, or let `gencond-fast data "
            "check` list it and leave it out with --on-bad-image skip."
        ) from error


def header(data: bytes, where: str) -> tuple[bool, int]:
    """Whether the image is gray, and its shorter side in pixels; decodes no pixels.

    Raises:
        BadImage: as `decode`, as far as the header shows.
    """
    image = open_image(data, where)
    return is_gray(image.mode), min(image.size)


def is_gray(mode: str) -> bool:
    """Whether images of this Pillow mode are gray."""
    return mode in _GRAY_MODES or mode.startswith("I")


def open_image(data: bytes, where: str) -> Image.Image:
    """Reads the header of an image; decodes no pixels.

    Raises:
        BadImage: the bytes are no image, or claim too many pixels.
    """
    if not data:
        raise BadImage(where, "is empty (0 bytes)")
    try:
        image = _opened(data)
    except Image.UnidentifiedImageError as error:
        raise BadImage(where, f"is no image in a known format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(where, f"has more than {MAX_PIXELS:,} pixels", _SHRINK) from error
    except MemoryError:
        raise
    except Exception as error:  # parsers raise nearly anything on hostile bytes
        raise _undecodable(where, error) from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}x{image.height}"
        raise BadImage(where, f"has {size} pixels, more than {MAX_PIXELS:,}", _SHRINK)
    return image


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except ValueError as error:
        bare = without_texts(data) if _TEXT_LIMIT in str(error) else None
        if bare is None:
            raise
        return Image.open(io.BytesIO(bare), formats=FORMATS)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 … 8; 1 (upright) where the tag is missing or damaged."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged tag says nothing about the pixels
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def _undecodable(where: str, error: Exception) -> BadImage:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return BadImage(where, f"cannot be decoded ({reason})")


def _draft(image: Image.Image, image_size: int) -> None:
    """Lets a JPEG decode at a fraction of its size."""
    part = fraction(*image.size, image_size)
    if part > 1 and image.format in ("JPEG", "MPO"):
        image.draft(None, (image.width // part, image.height // part))


def fraction(width: int, height: int, image_size: int) -> int:
    """The divisor, 8, 4, 2 or 1, by which the decoder may shrink a JPEG before it is resized.

    The shrunk image keeps at least twice the side `image_size`, so that the resizing filter removes
    what was lost. The offset of its central window stays a whole number of pixels.
    """
    shorter, offset = min(width, height), abs(width - height) // 2
    fitting = (part for part in (8, 4, 2) if shorter >= 2 * part * image_size)
    return next((part for part in fitting if offset % part == 0), 1)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # first, for what Pillow turns as it loads has no orientation then
    method = _UPRIGHT.get(orientation(image))
    return image if method is None else image.transpose(method)


def _convert(image: Image.Image, channels: int, transparency: Transparency) -> Image.Image:
    known = known_range(image)  # what follows makes images that do not state it
    image = opaque(image, transparency)
    if image.mode.startswith("I"):
        image = _eight_bits(image, known)
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def known_range(image: Image.Image) -> int | None:
    """The largest value that gray of more than 8 bits can have, where a TIFF states it."""
    tags = getattr(image, "tag_v2", {})
    stated = [tags.get(_MAX_SAMPLE)] + [
        (1 << bits) - 1 for bits in tags.get(_BITS_PER_SAMPLE, ()) if bits != _CONTAINER_BITS
    ]
    tops = [top[0] if isinstance(top, tuple) else top for top in stated if top]
    return next((int(top) for top in tops if 255 < int(top) < 65535), None)


def _eight_bits(image: Image.Image, top: int | None) -> Image.Image:
    wide = np.asarray(image).astype(np.int64)
    if top is not None and wide.min() >= 0 and wide.max() <= top:
        return Image.fromarray(((wide * 255 + top // 2) // top).astype(np.uint8))
    if wide.min() < 0 or wide.max() > 65535:
        raise ValueError("32-bit pixels have no known range")
    # 65535 = 255 · 257, so adding half of 257 rounds v · 255 / 65535.
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
