"""Grids: which picture is where, and that it is the stored one to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from store_builders import spec_of

from gencond_fast.exporting.figures import real_grid, sample_grid, save_png, to_uint8
from gencond_fast.store.store import StoredSet
from gencond_fast.store.stores import build_store

GAP = 2


def pixel_store(**changes) -> StoredSet:
    changes = {"image_size": 12, "code_size": 12} | changes
    return build_store(spec_of("pixels", **changes), seed=3)


def decoded(store: StoredSet) -> np.ndarray:
    """uint8 [C, per_class, S, S, 3]."""
    spec = store.spec
    with torch.no_grad():
        images = store(torch.arange(spec.samples))
    pictures = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pictures = np.broadcast_to(pictures, (*pictures.shape[:3], 3))
    return pictures.reshape(spec.num_classes, spec.per_class, *pictures.shape[1:])


def cells(sheet: Image.Image, rows: int, columns: int, cell: int, side: int) -> np.ndarray:
    """The pictures of a sheet, uint8 [rows, columns, S, S, 3], taken from its right edge on."""
    pixels = np.asarray(sheet)
    left = sheet.width - columns * (cell + GAP) - GAP
    factor = cell // side
    out = np.empty((rows, columns, side, side, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            y, x = GAP + row * (cell + GAP), left + column * (cell + GAP)
            block = pixels[y : y + cell, x : x + cell]
            small = block[::factor, ::factor]
            assert np.array_equal(block, small.repeat(factor, 0).repeat(factor, 1))
            out[row, column] = small
    return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "cell"), [(8, 48), (12, 48), (30, 60), (64, 64)])
def test_every_sample_is_in_its_place(channels, side, cell):
    store = pixel_store(channels=channels, image_size=side, code_size=side)
    sheet = sample_grid(store, ("ant", "bee", "cow"))
    assert sheet.mode == "RGB"
    assert sheet.height == 3 * (cell + GAP) + GAP
    assert np.array_equal(cells(sheet, 3, 5, cell, side), decoded(store))


def test_no_more_than_twenty_classes_and_twelve_samples():
    store = pixel_store(num_classes=23, per_class=15)
    sheet = sample_grid(store, [f"class {c}" for c in range(23)])
    assert np.array_equal(cells(sheet, 20, 12, 48, 12), decoded(store)[:20, :12])
    assert sheet.height == 20 * (48 + GAP) + GAP


def test_fewer_columns_on_demand():
    store = pixel_store()
    sheet = sample_grid(store, ("a", "b", "c"), columns=2)
    assert np.array_equal(cells(sheet, 3, 2, 48, 12), decoded(store)[:, :2])
    assert sheet.width < sample_grid(store, ("a", "b", "c")).width


def test_names_are_written_on_white_and_tell_classes_apart():
    store = pixel_store(per_class=1)
    sheet = sample_grid(store, ("ant", "bee", "bee"))
    margin = np.asarray(sheet)[:, : sheet.width - 48 - 2 * GAP]
    lines = [margin[GAP + r * 50 : GAP + r * 50 + 48] for r in range(3)]
    assert all(line.min() < 100 and line.max() == 255 for line in lines)
    assert np.array_equal(lines[1], lines[2])
    assert not np.array_equal(lines[0], lines[1])


@pytest.mark.parametrize(
    "name", ["", " ", "日本語", "🦊", "two\nlines", "tab\t", "caf\udce9", "\0", "n" * 500]
)
def test_any_name_can_be_drawn(name):
    store = pixel_store(num_classes=2)
    sheet = sample_grid(store, (name, "b"))
    assert np.array_equal(cells(sheet, 2, 5, 48, 12), decoded(store))
    assert sheet.width < 800  # long names are cut


def test_generators_are_drawn_too():
    store = build_store(spec_of())
    assert np.array_equal(cells(sample_grid(store, "abc"), 3, 5, 48, 12), decoded(store))


def test_real_images_in_the_same_layout():
    images = torch.randint(256, (9, 3, 12, 12), dtype=torch.uint8)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2])
    found = cells(real_grid(images, labels, "abc"), 3, 4, 48, 12)
    want = images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found[:2].reshape(8, 12, 12, 3), want[:8])
    assert np.array_equal(found[2, 0], want[8])
    assert (found[2, 1:] == 255).all()


def test_to_uint8_rounds_and_clamps():
    images = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 1.0, 1.5]).view(1, 1, 1, 7)
    assert to_uint8(images).tolist() == [[[[0], [0], [0], [1], [128], [255], [255]]]]
    levels = torch.arange(256).view(1, 1, 16, 16)
    assert np.array_equal(to_uint8(levels / 255).reshape(-1), np.arange(256))
    assert to_uint8(torch.rand(2, 3, 4, 5)).shape == (2, 4, 5, 3)


def test_saved_without_loss(tmp_path):
    sheet = sample_grid(pixel_store(), ("a", "b", "c"))
    save_png(sheet, tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as read:
        assert read.format == "PNG"
        assert np.array_equal(np.asarray(read), np.asarray(sheet))
