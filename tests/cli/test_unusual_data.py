"""Data that is unusual, and right: it must be condensed."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import TINY, call, metrics, options_of
from image_builders import pictures, write_npz, write_tree
from PIL import Image

import gencond_fast as gf

SHORT = (*TINY, "--steps", "6")


def test_a_class_of_one_image_is_condensed(tmp_path):
    made = [*pictures(5, ("ant", "bee")), *pictures(1, ("cow",), seed=1)]
    data = write_tree(tmp_path / "set", made)
    done = call("condense", "--data", data, "--out", tmp_path / "run", *SHORT)
    assert done.code == 0, done.err
    assert metrics(tmp_path / "run")
    assert gf.CondensedDataset(tmp_path / "run").classes == ["ant", "bee", "cow"]


@pytest.mark.parametrize("kind", ["CMYK", "16 bits", "palette", "transparent", "mixed sizes"])
def test_unusual_images_are_condensed_in_their_colours(tmp_path, kind):
    colours = {"dark": (30, 30, 30), "light": (220, 220, 220)}
    root = tmp_path / "set"
    for name, colour in colours.items():
        (root / name).mkdir(parents=True)
        for place in range(4):
            side = 8 + 3 * place if kind == "mixed sizes" else 8
            plain = Image.new("RGB", (side, side), colour)
            image, extension, options = {
                "CMYK": (plain.convert("CMYK"), "jpg", {"quality": 95}),
                "16 bits": (
                    Image.fromarray(np.full((8, 8), colour[0] * 257, np.uint16)),
                    "png",
                    {},
                ),
                "palette": (plain.convert("P"), "png", {}),
                "transparent": (plain.convert("RGBA"), "png", {}),
                "mixed sizes": (plain, "png", {}),
            }[kind]
            image.save(root / name / f"{place}.{extension}", **options)
    # pixels fitted to the images by the warm start alone are the images
    options = ("--set", "store.format=pixels", "--steps", 150, "--set", "training.warm_start=1")
    rate = ("--set", "training.warm_lr=0.02", "--set", "store.per_class=4")
    done = call("condense", "--data", root, "--out", tmp_path / "run", *SHORT, *options, *rate)
    assert done.code == 0, done.err
    data = gf.CondensedDataset(tmp_path / "run")
    for image, label in data:
        seen = 255 * image.mean((1, 2))
        wanted = colours[data.classes[label]][0]
        assert (seen - wanted).abs().max() < 12, (data.classes[label], seen)


def test_a_bad_image_found_in_time_does_not_bind_the_directory(tmp_path):
    data = write_tree(tmp_path / "set", pictures(6, ("ant", "bee")))
    (data / "bee" / "x.jpg").write_bytes(b"hello")
    out = ("--out", tmp_path / "run")
    assert call("condense", "--data", data, *out, *SHORT).code == 2
    (data / "bee" / "x.jpg").unlink()
    assert call("condense", "--data", data, *out, *SHORT, "--seed", 4).code == 0
    assert options_of(tmp_path / "run")["seed"] == 4


def test_the_class_names_of_arrays_become_folders(tmp_path):
    data = write_npz(tmp_path / "set.npz", pictures(6, ("ant", "bee")))
    done = call("condense", "--data", data, "--out", tmp_path / "run", *SHORT)
    assert done.code == 0, done.err
    call("sample", tmp_path / "run", "--out", tmp_path / "o", "--per-class", 1)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["ant", "bee"]
