"""Images of 10, 12 and 16 bits a channel: scaled by their real range, or refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_builders import encode, noise
from PIL import Image, TiffImagePlugin

from gencond_fast.data import open_source, stream
from gencond_fast.data.decode import decode
from gencond_fast.errors import InputError


def gray(data):
    return decode(data, channels=1, where="x")[..., 0].astype(int)


def values(bits, seed=0):
    made = np.random.default_rng(seed).integers(0, 1 << bits, (8, 8)).astype(np.uint16)
    made[0, :2] = 0, (1 << bits) - 1
    return made


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_portable_graymap_says_its_range(bits):
    wide, top = values(bits), (1 << bits) - 1
    for text in (False, True):
        head = f"P{2 if text else 5} 8 8 {top}\n".encode()
        body = " ".join(map(str, wide.ravel())).encode() if text else wide.astype(">u2").tobytes()
        assert np.abs(gray(head + body) - wide * (255 / top)).max() <= 1
    assert {gray(head + body).min(), gray(head + body).max()} == {0, 255}


@pytest.mark.parametrize("bits", [10, 12])
def test_a_tiff_says_its_largest_value(bits):
    wide, top = values(bits), (1 << bits) - 1
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = (top,)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "TIFF", tiffinfo=tags)
    assert np.abs(gray(file.getvalue()) - wide * (255 / top)).max() <= 0.51


def tiff_of_twelve_bits(wide):
    """Two values in three bytes, as cameras write them."""
    flat = wide.ravel().astype(int)
    first, second = flat[::2], flat[1::2]
    body = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
    body = body.astype(np.uint8).tobytes()
    entries = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 134), (277, 1), (278, 8),
               (279, len(body)), (339, 1)]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries
    )
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + body


def test_packed_twelve_bits_are_scaled_by_their_range():
    wide = values(12)
    assert np.abs(gray(tiff_of_twelve_bits(wide)) - wide * (255 / 4095)).max() <= 0.51


def png_of_wide_colour(wide):
    """A PNG of 16-bit RGB, which Pillow reads and does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def png_of(wide, colour):
    if colour:
        return png_of_wide_colour(np.stack([wide] * 3, -1))
    return encode(Image.fromarray(wide))


def tree(root, files, suffix="png"):
    for place, data in enumerate(files):
        folder = root / ("ant", "bee")[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place}.{suffix}").write_bytes(data)
    return str(root)


@pytest.mark.parametrize("bits", [9, 10, 12])
@pytest.mark.parametrize("colour", [False, True])
def test_sixteen_bits_that_hold_fewer_are_refused(tmp_path, bits, colour):
    made = [values(bits, seed) for seed in range(6)]
    files = [png_of(each, colour) for each in made]
    with pytest.raises(InputError, match=r"16-bit images .*come out black; multiply them by"):
        open_source(tree(tmp_path / "d", files))


@pytest.mark.parametrize("colour", [False, True])
def test_real_sixteen_bits_are_read(tmp_path, colour):
    dark = values(8, 1)
    made = [dark, *(values(16, seed) for seed in range(5))]
    files = [png_of(each, colour) for each in made]
    source = open_source(tree(tmp_path / "d", files))
    (batch,) = stream(source.train, channels=3, image_size=8, batch_size=9)
    found = {int(image.max()) for image in batch.images}
    assert found == {int(dark.max()) // 256 if colour else round(int(dark.max()) / 257), 255}


def test_black_images_of_sixteen_bits_and_broken_ones_are_left_to_others(tmp_path):
    black = encode(Image.fromarray(np.zeros((8, 8), np.uint16)))
    source = open_source(tree(tmp_path / "d", [black] * 4))
    assert len(source.train) == 4


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
def test_a_png_with_a_long_text_is_read(where, kind):
    colour = noise(8, 8, 3)
    plain = encode(Image.fromarray(colour))
    text = b"x" * (1 << 21)
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"tEXt": b"a\0"}[kind]
    body = head + (text if kind == b"tEXt" else zlib.compress(text))
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    at = plain.index(b"IDAT" if where == "before" else b"IEND") - 4
    data = plain[:at] + chunk + plain[at:]
    np.testing.assert_array_equal(decode(data, channels=3, where="x"), colour)
