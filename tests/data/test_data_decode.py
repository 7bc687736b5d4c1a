"""Every image mode against plain NumPy, and hostile bytes against nothing but InputError."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_builders import encode, noise, png_header
from PIL import Image, ImageFile

from gencond_fast.data.decode import decode, header
from gencond_fast.data.resize import central, fit, with_channels
from gencond_fast.errors import InputError


def rgb(data: bytes, **options) -> np.ndarray:
    return decode(data, channels=3, where="x.png", **options)


def gray(data: bytes, **options) -> np.ndarray:
    return decode(data, channels=1, where="x.png", **options)


def test_rgb_and_gray_png_are_exact():
    colour, plain = noise(5, 7, 3), noise(5, 7)
    np.testing.assert_array_equal(rgb(encode(Image.fromarray(colour))), colour)
    np.testing.assert_array_equal(gray(encode(Image.fromarray(plain))), plain[..., None])
    np.testing.assert_array_equal(
        rgb(encode(Image.fromarray(plain))), np.repeat(plain[..., None], 3, axis=2)
    )


def test_rgb_to_gray_is_luma_for_files_and_arrays():
    colour = noise(16, 16, 3)
    expected = colour @ np.array([0.299, 0.587, 0.114])
    from_file = gray(encode(Image.fromarray(colour)))
    assert np.abs(from_file[..., 0] - expected).max() <= 0.51
    np.testing.assert_array_equal(from_file, with_channels(colour, 1))


def test_cmyk():
    cmyk = noise(6, 6, 4)
    data = encode(Image.frombytes("CMYK", (6, 6), cmyk.tobytes()), "TIFF")
    ink = 255.0 - cmyk
    expected = ink[..., :3] * ink[..., 3:] / 255
    assert np.abs(rgb(data) - expected).max() <= 1
    assert gray(data).shape == (6, 6, 1)
    assert header(data, "x") == (False, 6)


def test_cmyk_jpeg_is_not_inverted():
    white = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert rgb(encode(white, "JPEG")).min() >= 250


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled_and_rounded(kind):
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = encode(Image.fromarray(wide), kind)
    expected = np.rint(wide * (255 / 65535)).astype(np.uint8)
    np.testing.assert_array_equal(gray(data)[..., 0], expected)
    np.testing.assert_array_equal(rgb(data)[..., 1], expected)
    assert header(data, "x") == (True, 256)


def test_thirty_two_bit_and_float_are_refused():
    for pixels in (np.full((4, 4), 70000, np.int32), np.zeros((4, 4), np.float32)):
        with pytest.raises(InputError, match=r"x.png cannot be decoded .*no known range"):
            gray(encode(Image.fromarray(pixels), "TIFF"))


def test_palette_is_colour():
    colours = np.array([[250, 0, 10], [0, 240, 20], [5, 6, 230]], np.uint8)
    places = noise(4, 4) % 3
    image = Image.frombytes("P", (4, 4), places.tobytes())
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(rgb(encode(image)), colours[places])
    assert header(encode(image), "x")[0] is False


def test_one_bit():
    bits = noise(9, 9) > 127
    data = encode(Image.fromarray(bits))
    np.testing.assert_array_equal(gray(data)[..., 0], bits * np.uint8(255))
    assert header(data, "x") == (True, 9)


def test_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(rgb(data), np.broadcast_to([255, 0, 0], (4, 6, 3)))


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation, kind):
    colour = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(colour), kind, exif=exif, lossless=True)
    np.testing.assert_array_equal(rgb(data), UPRIGHT[orientation](colour))


def test_damaged_exif_does_not_cost_the_image():
    colour = noise(4, 6, 3)
    data = encode(Image.fromarray(colour), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(rgb(data), colour)


@pytest.mark.parametrize("size", [40, 64])
def test_draft_of_a_large_jpeg_is_still_antialiased(size):
    small = Image.fromarray(noise(48, 64, 3))
    big = small.resize((1024, 768), Image.Resampling.BICUBIC)
    data = encode(big, "JPEG", quality=95)
    fast = rgb(data, image_size=size).astype(int)
    whole = Image.open(io.BytesIO(data)).convert("RGB").crop((128, 0, 896, 768))
    exact = np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(fast - exact).mean() < 1.5


def bicubic_weights(length: int, size: int) -> np.ndarray:
    """Antialiased bicubic interpolation (a = -1/2) as a matrix [size, length]."""
    scale = length / size
    support = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    t = np.abs((np.arange(length) + 0.5 - centres[:, None]) / support)
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


def resized(pixels: np.ndarray, size: int) -> list[np.ndarray]:
    """Both orders of the two passes; bytes are rounded and clipped between them."""
    rows, columns = (bicubic_weights(length, size) for length in pixels.shape[:2])
    down = np.clip(np.einsum("oh,hwc->owc", rows, pixels), 0, 255)
    across = np.clip(np.einsum("ow,hwc->hoc", columns, pixels), 0, 255)
    both = (
        np.einsum("ow,hwc->hoc", columns, down),
        np.einsum("oh,hwc->owc", rows, across),
    )
    return [np.clip(one, 0, 255) for one in both]


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 40),
    c=st.sampled_from([1, 3]),
    data=st.data(),
)
def test_resize_is_bicubic_in_a_window(height, width, size, c, data):
    pixels = noise(height, width, c, seed=height * 41 + width)
    if data.draw(st.booleans(), "centre"):
        window, short = None, min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        cut = pixels[top : top + short, left : left + short]
    else:
        left, top = (data.draw(st.integers(0, side - 1)) for side in (width, height))
        right, bottom = (
            data.draw(st.integers(left + 1, width)),
            data.draw(st.integers(top + 1, height)),
        )
        window, cut = (left, top, right, bottom), pixels[top:bottom, left:right]
    got = fit(pixels, size, window)
    if cut.shape[:2] == (size, size):
        np.testing.assert_array_equal(got, cut)
    else:
        assert min(np.abs(got - one).max() for one in resized(cut, size)) <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_that_of_pillow(channels):
    for shape, size in (((300, 411), 224), ((300, 411), 32), ((50, 50), 64)):
        pixels = noise(*shape, channels, seed=size)
        left, top, right, bottom = central(shape[1], shape[0])
        cut = Image.fromarray(pixels[top:bottom, left:right].squeeze())
        expected = np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))
        difference = np.abs(fit(pixels, size).squeeze().astype(int) - expected)
        assert difference.max() <= 2
        assert difference.mean() < 0.05


def test_a_long_image_is_cheap():
    assert fit(noise(1, 60_000, 3), 64).shape == (64, 64, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pixel_bomb_is_refused():
    with pytest.raises(InputError, match=r"x.png has .*pixels.*make it smaller"):
        rgb(png_header(60_000, 60_000))
    with pytest.raises(InputError, match=r"x.png has .*pixels.*make it smaller"):
        header(png_header(10_000, 10_000), "x.png")


def test_truncated_images_stay_errors():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        data = encode(Image.fromarray(noise(32, 32, 3)), kind)
        with pytest.raises(InputError, match=r"x.png .*replace or remove it"):
            rgb(data[: len(data) // 2])


@settings(deadline=None, max_examples=150)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]))
def test_damaged_bytes_give_pixels_or_an_input_error(data, kind):
    encoded = bytearray(encode(Image.fromarray(noise(12, 10, 3)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    try:
        got = rgb(bytes(encoded[:cut]), image_size=6)
    except InputError:
        return
    assert got.shape == (6, 6, 3)
    assert got.dtype == np.uint8
