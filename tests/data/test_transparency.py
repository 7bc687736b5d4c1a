"""Transparent images of every kind against the formula of compositing."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import TINY, call
from image_builders import encode, noise, write_tree
from PIL import Image

from gencond_fast.data import open_source, stream
from gencond_fast.data.decode import decode, header

GROUND = {"white": 255, "black": 0}


def shown(data, channels=3, **options):
    return decode(data, channels=channels, where="x.png", **options).astype(int)


def composed(colour, alpha, level):
    share = alpha[..., None] / 255.0
    return colour * share + level * (1 - share)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("ground", GROUND)
def test_a_channel_of_alpha_lets_the_ground_through(kind, ground):
    pixels = noise(6, 7, 4)
    image = Image.frombytes("RGBA", (7, 6), pixels.tobytes())
    if kind == "AVIF":
        pixels[...] = [200, 40, 90, 100]
        image = Image.new("RGBA", (7, 6), (200, 40, 90, 100))
    data = encode(image, kind, **({} if kind == "AVIF" else {"lossless": True}))
    expected = composed(pixels[..., :3], pixels[..., 3], GROUND[ground])
    assert np.abs(shown(data, transparency=ground) - expected).max() <= (6 if kind == "AVIF" else 1)


@pytest.mark.parametrize("ground", GROUND)
@pytest.mark.parametrize("channels", [1, 3])
def test_gray_with_alpha_stays_gray(ground, channels):
    pixels = noise(5, 5, 2)
    data = encode(Image.frombytes("LA", (5, 5), pixels.tobytes()))
    expected = composed(pixels[..., :1], pixels[..., 1], GROUND[ground])
    assert np.abs(shown(data, channels, transparency=ground) - expected).max() <= 1
    assert header(data, "x")[0] is True


@pytest.mark.parametrize("ground", GROUND)
def test_one_colour_of_a_palette_is_transparent(ground):
    colours = np.array([[250, 0, 10], [0, 240, 20], [5, 6, 230]], np.uint8)
    places = noise(4, 4) % 3
    image = Image.frombytes("P", (4, 4), places.tobytes())
    image.putpalette(colours.tobytes())
    expected = colours[places]
    expected[places == 1] = GROUND[ground]
    np.testing.assert_array_equal(
        shown(encode(image, transparency=1), transparency=ground), expected
    )
    np.testing.assert_array_equal(
        shown(encode(image, "GIF", transparency=1), transparency=ground), expected
    )


@pytest.mark.parametrize("ground", GROUND)
def test_a_palette_may_have_alpha_in_each_colour(ground):
    colours = np.array([[250, 0, 10], [0, 240, 20], [5, 6, 230]], np.uint8)
    alphas, places = np.array([255, 64, 0], np.uint8), noise(4, 4) % 3
    image = Image.frombytes("P", (4, 4), places.tobytes())
    image.putpalette(colours.tobytes())
    data = encode(image, transparency=bytes(alphas))
    expected = composed(colours[places], alphas[places], GROUND[ground])
    assert np.abs(shown(data, transparency=ground) - expected).max() <= 1


@pytest.mark.parametrize("ground", GROUND)
def test_one_gray_or_one_colour_is_transparent(ground):
    gray = np.array([[0, 7, 7], [90, 7, 255]], np.uint8)
    data = encode(Image.fromarray(gray), transparency=7)
    expected = np.where(gray == 7, GROUND[ground], gray)[..., None]
    np.testing.assert_array_equal(shown(data, 1, transparency=ground), expected)
    colour = np.stack([gray, gray, np.full_like(gray, 9)], axis=-1)
    data = encode(Image.fromarray(colour), transparency=(7, 7, 9))
    expected = np.where((gray == 7)[..., None], GROUND[ground], colour)
    np.testing.assert_array_equal(shown(data, transparency=ground), expected)


@pytest.mark.parametrize("ground", GROUND)
def test_a_value_of_sixteen_bit_gray_is_transparent(ground):
    wide = np.array([[0, 1000, 65535], [1000, 30000, 2]], np.uint16)
    data = encode(Image.fromarray(wide), transparency=1000)
    expected = np.where(wide == 1000, GROUND[ground], np.rint(wide * (255 / 65535)))
    np.testing.assert_array_equal(shown(data, 1, transparency=ground)[..., 0], expected)


@pytest.mark.parametrize(("mode", "bands"), [("LA", 2), ("RGBA", 4)])
def test_ignored_transparency_shows_what_is_stored(mode, bands):
    pixels = noise(5, 5, bands)
    data = encode(Image.frombytes(mode, (5, 5), pixels.tobytes()))
    np.testing.assert_array_equal(
        shown(data, transparency="ignore"), np.broadcast_to(pixels[..., :-1], (5, 5, 3))
    )


def test_opaque_images_with_a_channel_of_alpha_keep_their_bits():
    colour = noise(5, 5, 3)
    image = Image.fromarray(np.dstack([colour, np.full((5, 5), 255, np.uint8)]), "RGBA")
    np.testing.assert_array_equal(shown(encode(image)), colour)


def icons(root):
    """Black drawings on transparent ground, which are one black square if that is ignored."""
    for place, name in enumerate(("bar", "dot")):
        alpha = np.zeros((8, 8), np.uint8)
        alpha[:, 2:4] = 255 * (1 - place)
        alpha[3:5, 3:5] = 255
        image = Image.fromarray(np.dstack([np.zeros((8, 8, 3), np.uint8), alpha]), "RGBA")
        (root / name).mkdir(parents=True)
        for number in range(8):
            (root / name / f"{number}.png").write_bytes(encode(image))
    return root


@pytest.mark.parametrize("reader", ["threads", "processes"])
@pytest.mark.parametrize("option", [None, "white", "black", "ignore"])
def test_every_reader_and_subset_keeps_the_choice(tmp_path, reader, option):
    source = open_source(str(icons(tmp_path / "d")), reader=reader, transparency=option)
    part = source.subset(np.arange(0, 16, 3), lambda line: None)
    for images in (source.train, part.train):
        made = stream(images, channels=3, image_size=8, batch_size=5, workers=2)
        levels = {int(batch.images.max()) for batch in made}
        assert levels == ({255} if option in (None, "white") else {0})


def test_another_ground_is_another_data_set(tmp_path):
    data = str(icons(tmp_path / "d"))
    prints = {option: open_source(data, transparency=option).fingerprint
              for option in (None, "white", "black", "ignore")}  # fmt: skip
    assert prints[None] == prints["white"]
    assert len(set(prints.values())) == 3


def test_a_file_is_judged_on_the_ground_it_was_made_on(tmp_path):
    write_tree(tmp_path / "set", [])
    icons(tmp_path / "set" / "train")
    icons(tmp_path / "set" / "val")
    data, run = tmp_path / "set", tmp_path / "run"
    done = call("condense", "--data", data, "--out", run, *TINY, "--transparency", "black")
    assert done.code == 0, done.err
    done = call("evaluate", run, "--data", data, "--epochs", 1, "--seeds", 1)
    assert done.code == 0, done.err
    assert "not, file for file" not in done.err
    done = call("evaluate", run, "--data", data, "--epochs", 1, "--transparency", "white")
    assert "not, file for file" in done.err
