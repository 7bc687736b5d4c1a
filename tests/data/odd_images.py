"""Images as they are found in the wild: broken ones, and ones that are merely unusual."""

from __future__ import annotations

from image_builders import encode, noise
from PIL import Image

PHOTO = Image.fromarray(noise(40, 48, 3, seed=5)).resize((96, 80), Image.Resampling.BICUBIC)


def turned(orientation: int = 6, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(PHOTO, kind, exif=exif)


def damaged_inside(jpeg: bytes, table: int) -> bytes:
    """A JPEG of which a table (0xC4 Huffman, 0xDB quantisation) is gone, whole at both ends."""
    at = jpeg.index(bytes([0xFF, table]))
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4]) :]


def interrupted(jpeg: bytes) -> bytes:
    """A JPEG with something else in the midst of its scan, whole at both ends."""
    at = (jpeg.index(b"\xff\xda") + len(jpeg)) // 2
    return jpeg[:at] + b"\xff\xda\0\2" + jpeg[at:]


_JPEG = encode(PHOTO, "JPEG")
_PROGRESSIVE = encode(PHOTO, "JPEG", progressive=True)
_FRAMES = {"save_all": True, "append_images": [PHOTO.rotate(90)]}

# file name -> (bytes, the beginning of what is said about it)
BROKEN = {
    "cut.jpg": (_JPEG[: len(_JPEG) // 2], "cannot be decoded (image file is truncated"),
    "cut_late.jpg": (_JPEG[:-200], "cannot be decoded (image file is truncated"),
    "cut_progressive.jpg": (
        _PROGRESSIVE[: len(_PROGRESSIVE) // 2],
        "cannot be decoded (image file is truncated",
    ),
    "cut.png": (encode(PHOTO)[:-4000], "cannot be decoded ("),
    "cut.webp": (encode(PHOTO, "WEBP")[:-300], "cannot be decoded ("),
    "empty.jpg": (b"", "is empty (0 bytes)"),
    "text.jpg": (b"<html>not found</html>", "is no image in a known format"),
    "header.jpg": (_JPEG[:200], ""),
}

# file name -> (bytes, kinds of oddity)
ODD = {
    "cmyk.jpg": (encode(PHOTO.convert("CMYK"), "JPEG"), {"not RGB: CMYK"}),
    "gray.jpg": (encode(PHOTO.convert("L"), "JPEG"), {"not RGB: gray"}),
    "palette.png": (encode(PHOTO.convert("P")), {"not RGB: palette"}),
    "transparent.png": (encode(PHOTO.convert("RGBA")), {"not RGB: RGBA"}),
    "really_png.JPEG": (encode(PHOTO), {"PNG in a file named as JPEG"}),
    "really_webp.png": (encode(PHOTO, "WEBP"), {"WEBP in a file named as PNG"}),
    "turned.jpg": (turned(), {"turned by its EXIF tag"}),
    "frames.webp": (encode(PHOTO, "WEBP", **_FRAMES), {"several frames, the first is used"}),
    "thin.png": (
        encode(PHOTO.resize((70, 6))),
        {"a side below 8 pixels", "a side more than 10 times the other"},
    ),
    "classes.png": (
        encode(PHOTO.convert("L").point(lambda v: v // 12)),
        {"not RGB: gray", "nearly black, such as a mask or a map of labels"},
    ),
    "long.png": (
        encode(Image.new("RGB", (10_001, 1100), "gray")),
        {"a side above 10,000 pixels"},
    ),
}
PLAIN = {
    "plain.jpg": _JPEG,
    "progressive.jpg": _PROGRESSIVE,
    "444.jpg": encode(PHOTO, "JPEG", subsampling=0),
    "plain.webp": encode(PHOTO, "WEBP"),
    "plain.PNG": encode(PHOTO),
}
