"""Random windows: their distribution, and the pixels they give, against Pillow and torchvision."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_builders import Picture, encode, noise, write_npz, write_tree
from odd_images import ODD, PHOTO
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from gencond_fast.data import RandomCrop, open_source, training_batches
from gencond_fast.data.crop import window
from gencond_fast.data.decode import decode
from gencond_fast.data.resize import fit

LARGE = PHOTO.resize((957, 723), Image.Resampling.BICUBIC)


def reference(data: bytes, size: int, window) -> np.ndarray:
    """The window of the whole image, decoded in full and turned, resized by Pillow alone."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return resized(upright, size, window(*upright.size))


def resized(image: Image.Image, size: int, box) -> np.ndarray:
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.BICUBIC))


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    """Within the rounding between and after the two directions of the filter."""
    apart = np.abs(got.astype(int) - want)
    assert apart.max() <= 2
    assert apart.mean() < 0.1 or got.size < 1000


def cropped(data: bytes, size: int, window) -> np.ndarray:
    return decode(data, channels=3, where="it", image_size=size, window=window)


def turned_by(kind: str, orientation: int, image=LARGE) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, kind, exif=exif)


def window_of(crop: RandomCrop, row: int, width: int, height: int) -> tuple[int, ...]:
    """By both ways that there are, which must agree."""
    draws = crop.draws(np.array([row]))
    (box,) = crop.windows(draws, np.array([width]), np.array([height])).tolist()
    assert window(crop.shapes(draws)[0].tolist(), width, height) == tuple(box)
    return tuple(box)


def of_row(row: int):
    return lambda width, height: window_of(RandomCrop(0, 0), row, width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_windows_are_those_of_the_upright_image(kind, orientation):
    data = turned_by(kind, orientation)
    for row in range(4):
        for size in (40, 130):
            got, want = cropped(data, size, of_row(row)), reference(data, size, of_row(row))
            assert got.shape == (size, size, 3)
            assert_close(got, want)


@pytest.mark.parametrize("windowed", [True, False])
def test_a_jpeg_shrinks_as_it_is_decoded_only_where_all_of_it_is_wanted(windowed, monkeypatch):
    shrunk = []
    draft = JpegImageFile.draft

    def noted(self, mode, size):
        before = self.width
        answer = draft(self, mode, size)
        shrunk.append(round(before / self.width))
        return answer

    monkeypatch.setattr(JpegImageFile, "draft", noted)
    sides = (64, 127, 128, 255, 256, 511, 512, 700)
    for side in sides:
        image = LARGE.resize((side + 16, side), Image.Resampling.BICUBIC)
        window = (lambda width, height: (0, 0, height, height)) if windowed else None
        cropped(encode(image, "JPEG"), 32, window)
    assert shrunk == ([] if windowed else [2, 2, 4, 4, 8, 8])


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_images_have_windows_too(name):
    data = ODD[name][0]
    got, want = (function(data, 24, of_row(3)) for function in (cropped, reference))
    assert_close(got, want)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 90, 1), (90, 1, 3), (8, 8, 1)])
def test_arrays_down_to_one_pixel(shape):
    pixels = noise(*shape)
    for row in range(50):
        box = window_of(RandomCrop(0, 0), row, shape[1], shape[0])
        image = Image.fromarray(pixels if shape[2] == 3 else pixels[..., 0])
        assert_close(fit(pixels, 5, box), resized(image, 5, box).reshape(5, 5, shape[2]))


def test_files_and_arrays_give_the_same_batches(tmp_path):
    made = [Picture("ab"[i % 2], f"{i:02d}.png", noise(20, 26, 3, seed=i)) for i in range(12)]
    made.sort(key=lambda picture: (picture.class_name, picture.name))
    options = {"channels": 3, "batch_size": 5, "seed": 3, "epoch": 2, "crop": True}
    for size in (9, 20):
        files, arrays = (
            {
                row: image
                for batch in training_batches(
                    open_source(str(path)).train, image_size=size, **options
                )
                for row, image in zip(batch.indices.tolist(), batch.images, strict=True)
            }
            for path in (write_tree(tmp_path / "tree", made), write_npz(tmp_path / "a.npz", made))
        )
        assert len(files) == 12
        for row, picture in enumerate(made):
            box = window_of(RandomCrop(3, 2), row, 26, 20)
            want = resized(Image.fromarray(picture.pixels), size, box)
            assert_close(files[row].permute(1, 2, 0).numpy(), want)
            assert torch.equal(arrays[row], files[row])


# the distribution


def test_windows_follow_the_definition():
    rows = np.arange(20_000)
    crop = RandomCrop(7, 1)
    width = height = np.full(len(rows), 10_000)
    left, top, right, bottom = crop.windows(crop.draws(rows), width, height).T
    across, down = right - left, bottom - top
    free = (across < 9999) & (down < 9999)  # not cut to the image
    draws = crop.draws(rows)
    area = 0.08 + 0.92 * draws[:, 0]
    np.testing.assert_allclose((across * down)[free] / 1e8, area[free], rtol=1e-3)  # whole pixels
    # log-uniform where the area is too small for any ratio to be cut
    small = area < 0.74
    place = (np.log(across / down)[small] + math.log(4 / 3)) / (2 * math.log(4 / 3))
    for uniform in (draws[:, 0], place, left[small] / (10_000 - across)[small]):
        assert abs(uniform.mean() - 0.5) < 4 * math.sqrt(1 / 12 / len(uniform))
        counts = np.histogram(uniform.clip(0, 1), 20, (0, 1))[0]  # rounded to whole pixels
        expected = len(uniform) / 20
        assert ((counts - expected) ** 2 / expected).sum() < 45  # chi squared of 19, p = 7e-4
        assert counts.sum() == len(uniform)


def torchvision_window(rng, width, height):
    """RandomResizedCrop.get_params, written out; None where ten draws did not fit."""
    for _ in range(10):
        target = width * height * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if across <= width and down <= height:
            return across, down
    return None


def test_windows_that_fit_are_torchvisions():
    rng = np.random.default_rng(0)
    width, height = 500, 375
    theirs = [torchvision_window(rng, width, height) for _ in range(4000)]
    assert None not in theirs
    theirs = np.array(theirs)
    rows = np.arange(8000)
    crop = RandomCrop(0, 0)
    draws = crop.draws(rows)
    boxes = crop.windows(draws, np.full(len(rows), width), np.full(len(rows), height))
    across, down = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    fits = (across < width) & (down < height)  # the first draw of theirs that fits
    for ours, others in ((across[fits], theirs[:, 0]), (down[fits], theirs[:, 1])):
        steps = np.linspace(0, 500, 200)
        apart = [abs((ours < step).mean() - (others < step).mean()) for step in steps]
        # Kolmogorov and Smirnov: 1.95 is exceeded with p = 0.001
        assert max(apart) < 1.95 * math.sqrt(1 / len(ours) + 1 / len(others))


@given(st.integers(0, 10**12), st.integers(1, 20_000), st.integers(1, 20_000), st.integers(0, 99))
def test_windows_lie_within_the_image(row, width, height, epoch):
    left, top, right, bottom = window_of(RandomCrop(1, epoch), row, width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_a_window_depends_on_seed_epoch_and_row_alone():
    rows = np.array([5, 900, 31])
    alone = np.concatenate([RandomCrop(2, 3).draws(rows[i : i + 1]) for i in range(3)])
    assert np.array_equal(RandomCrop(2, 3).draws(rows), alone)
    made = {tuple(RandomCrop(s, e).draws(rows[:1])[0]) for s in (0, 1) for e in (0, 1)}
    assert len(made) == 4
