"""Errors and bytes of the codec benchmark against what files and pixels say by themselves."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from image_builders import Picture, write_npz
from PIL import Image

from benchmarks import codec, run
from benchmarks.codec_picture import _LOOKS, draw

SIDE, PER_CLASS = 16, 12


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:SIDE, :SIDE] / SIDE
    made = []
    for place in range(2 * PER_CLASS):
        slope = rng.normal(size=(2, 3)) * 60
        pixels = 128 + row[..., None] * slope[0] + column[..., None] * slope[1]
        pixels = (pixels + rng.normal(size=pixels.shape) * 6).clip(0, 255).astype(np.uint8)
        made.append(Picture("ab"[place % 2], f"{place}.png", pixels))
    return made


def test_rows_are_those_of_files_of_the_same_images(
    pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_BUDGETS", {64: (60, 120)})
    data = write_npz(tmp_path / "set.npz", pictures)
    file = tmp_path / "codec.csv"
    arguments = ["codec", "--data", str(data), "--images", "24", "--csv", str(file)]
    done = CliRunner().invoke(run.main, arguments)
    assert done.exit_code == 0, done.output
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["images"] for row in rows} == {"24"}
    assert {row["codec"] for row in rows} == set(codec.NAMES)
    assert {row["codec"] for row in rows if row["skipped"]} == {"generator"}
    found = {
        (row["codec"], int(row["setting"])): (float(row["bytes_per_image"]), float(row["psnr_db"]))
        for row in rows
        if not row["skipped"]
    }
    sizes, errors = [], []
    for each in pictures:
        file = io.BytesIO()
        Image.fromarray(each.pixels).save(file, "JPEG", quality=20, subsampling=2)
        scan = file.getvalue().rpartition(b"\xff\xda")[2]
        sizes.append(len(scan) - 12 - 2)  # its header, and the marker at the end
        with Image.open(file) as decoded:
            errors.append((np.array(decoded) / 255.0 - each.pixels / 255.0) ** 2)
    assert found["jpeg", 20][0] == pytest.approx(np.mean(sizes), abs=0.01)
    assert found["jpeg", 20][1] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=0.01)
    for name in {name for name, _ in found}:
        bytes_, ratios = np.array([found[key] for key in sorted(found) if key[0] == name]).T
        assert (np.diff(bytes_) > 0).all()
        assert (np.diff(ratios) > 0).all()
    assert all(found["dct", budget][0] <= budget for budget in (60, 120))


def test_some_ways_alone_are_measured(pictures: list[Picture], tmp_path: Path) -> None:
    data, file = write_npz(tmp_path / "set.npz", pictures), tmp_path / "codec.csv"
    for name in ("webp", "jpeg"):
        arguments = ["codec", "--data", str(data), "--only", name, "--csv", str(file)]
        done = CliRunner().invoke(run.main, arguments)
        assert done.exit_code == 0, done.output
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["codec"] for row in rows] == ["webp"] * 4 + ["jpeg"] * 4


def test_each_sample_is_compared_with_an_image_of_its_own() -> None:
    rng = torch.Generator().manual_seed(0)
    real = torch.rand(5, 3, 4, 4, generator=rng)
    samples = real[[3, 0, 4, 1, 2]] + 0.01
    np.testing.assert_allclose(codec._least_error(samples, real), 1e-4, rtol=1e-3)
    # two samples near the same image: one of them is that of another one
    samples[0] = samples[1]
    errors = codec._least_error(samples, real)
    assert errors.max() > 1e-2


def test_a_picture_has_a_panel_for_each_size_and_a_line_for_each_codec() -> None:
    rows = [
        {"data": data, "image_size": side, "images": "9", "codec": name, "skipped": skipped}
        | {"bytes_per_image": str(50 * place + 50), "psnr_db": str(22.5 + place)}
        for data, side in (("a", "32"), ("b", "64"))
        for name, skipped in (("jpeg", ""), ("dct", ""), ("generator", "too small"))
        for place in range(3)
    ]
    for row in rows:
        if row["skipped"]:
            row |= {"bytes_per_image": "", "psnr_db": ""}
    root = ElementTree.fromstring(draw(rows))
    space = "{http://www.w3.org/2000/svg}"
    assert len(list(root.iter(f"{space}polyline"))) == 4
    assert len(list(root.iter(f"{space}circle"))) == 12
    texts = [each.text for each in root.iter(f"{space}text")]
    assert texts.count("jpeg") == texts.count("dct") == 1
    assert "generator" not in texts
    assert {"a, 32 pixels, 9 images", "b, 64 pixels, 9 images"} <= set(texts)
    assert set(codec.NAMES) == set(_LOOKS)
