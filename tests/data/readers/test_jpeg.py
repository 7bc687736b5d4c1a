"""Which JPEGs are plain: upright, whole, gray or YCbCr; and how large they are."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_builders import encode, noise
from odd_images import BROKEN, ODD, PHOTO, interrupted, turned
from PIL import Image

from gencond_fast.data.readers.jpeg import plain_size

BASELINE = encode(PHOTO, "JPEG")
PROGRESSIVE = encode(PHOTO, "JPEG", progressive=True)


def xmp(orientation: int) -> bytes:
    """A JPEG that says only in XMP how it is turned."""
    text = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="{orientation}"/></x:xmpmeta>'
    body = b"http://ns.adobe.com/xap/1.0/\0" + text.encode()
    return BASELINE[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + BASELINE[2:]


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.booleans(),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 3]),
    st.booleans(),
)
def test_the_size_of_a_plain_one(width, height, progressive, subsampling, restarts, gray):
    image = Image.fromarray(noise(height, width) if gray else noise(height, width, 3))
    options = {"progressive": progressive, "restart_marker_blocks": restarts}
    options |= {} if gray else {"subsampling": subsampling}
    assert plain_size(encode(image, "JPEG", **options)) == (width, height)


@pytest.mark.parametrize(
    "jpeg", [turned(1), xmp(1), encode(PHOTO, "JPEG", comment=b"\x01\x12\0\3")]
)
def test_upright_ones_with_a_tag_are_plain(jpeg):
    assert plain_size(jpeg) == PHOTO.size


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_ones_are_not(orientation):
    assert plain_size(turned(orientation)) is None
    assert plain_size(xmp(orientation)) is None


@pytest.mark.parametrize(
    "data",
    [
        *(data for data, _ in BROKEN.values()),
        *(data for name, (data, _) in ODD.items() if name != "gray.jpg"),
        encode(PHOTO, "JPEG", keep_rgb=True),
        encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO]),
        interrupted(BASELINE),
        BASELINE + b"\0",
        BASELINE + BASELINE,
        b"\xff\xd8\xff\xd9",
        *(encode(PHOTO, kind) for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")),
    ],
)
def test_all_others_are_not(data):
    assert plain_size(data) is None


@given(st.sampled_from([BASELINE, PROGRESSIVE, turned(1)]), st.data())
def test_damage_never_raises_and_a_size_is_the_one_pillow_reads(jpeg, draw):
    start = draw.draw(st.integers(2, 700))
    stop = draw.draw(st.integers(start, 800))
    damaged = jpeg[:start] + draw.draw(st.binary(max_size=20)) + jpeg[stop:]
    size = plain_size(damaged)
    if size is not None:
        # A header that Pillow cannot read is told by whoever decodes it.
        with suppress(Image.UnidentifiedImageError, SyntaxError, OSError):
            assert Image.open(io.BytesIO(damaged)).size == size


@pytest.mark.parametrize("jpeg", [BASELINE, PROGRESSIVE])
def test_one_cut_anywhere_is_not(jpeg):
    for length in range(0, len(jpeg), 7):
        assert plain_size(jpeg[:length]) is None
