"""Errors and bytes of the codec benchmark against what files and pixels say by themselves."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from image_builders import Picture, write_npz
from PIL import Image

from benchmarks import codec, run

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
    found = {
        (row["codec"], int(row["setting"])): (float(row["bytes_per_image"]), float(row["psnr_db"]))
        for row in rows
    }
    sizes, errors = [], []
    for each in pictures:
        buffer = io.BytesIO()
        Image.fromarray(each.pixels).save(buffer, "JPEG", quality=20, subsampling=2, streamtype=2)
        sizes.append(len(buffer.getvalue()) - 2)
        whole = io.BytesIO()
        Image.fromarray(each.pixels).save(whole, "JPEG", quality=20, subsampling=2)
        with Image.open(whole) as decoded:
            errors.append((np.array(decoded) / 255.0 - each.pixels / 255.0) ** 2)
    assert found["jpeg", 20][0] == pytest.approx(np.mean(sizes), abs=0.01)
    assert found["jpeg", 20][1] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=0.01)
    for name in {name for name, _ in found}:
        bytes_, ratios = np.array([found[key] for key in sorted(found) if key[0] == name]).T
        assert (np.diff(bytes_) > 0).all()
        assert (np.diff(ratios) > 0).all()
    assert all(found["dct", budget][0] <= budget for budget in (60, 120))
