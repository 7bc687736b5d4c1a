"""The pictures of the README: the origins of stored samples, and the names in the chart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from benchmarks.readme_pictures import draw_pairs, name_marks, origin_images
from gencond_fast.errors import InputError
from gencond_fast.exporting.figures import cut_sheet
from gencond_fast.reporting.record import read_record


def test_origins_are_the_training_images_that_the_run_has_shown(tiny_run: Path) -> None:
    record = read_record(tiny_run)
    spec = record.artifact.metadata.store
    with Image.open(tiny_run / "real.png") as sheet:
        shown = cut_sheet(sheet, spec.image_size)
    origins = origin_images(record, "digits").permute(0, 2, 3, 1).numpy()
    assert len(origins) == spec.samples
    for label, row in enumerate(shown):
        count = min(len(row), spec.per_class)
        own = origins[label * spec.per_class :][:count]
        np.testing.assert_array_equal(np.broadcast_to(own, row[:count].shape), row[:count])


def test_origins_in_other_data_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    images = np.zeros((20, 8, 8), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(20) % 10)
    np.savez(tmp_path / "test.npz", images=images, labels=np.arange(20) % 10)
    with pytest.raises(InputError, match="is not the data that"):
        origin_images(read_record(tiny_run), str(tmp_path))


def test_each_pair_has_the_training_image_above_the_sample() -> None:
    real = np.full((2, 3, 8, 8, 1), 50, np.uint8)
    sheet = np.asarray(draw_pairs(real, real + 150, ["a", "b", "c"]).convert("L"))
    column = sheet[:, -20]
    changes = [int(v) for v, before in zip(column[1:], column, strict=False) if v != before]
    assert [value for value in changes if value != 255] == [50, 200, 50, 200]


def test_baselines_and_files_have_names_in_the_chart() -> None:
    drawing = Markup(
        '<svg><g class="own"><title>mine: 60 %</title><circle cx="1" cy="2" /></g>'
        '<g class="baseline"><title>mine: 50 %, trained on random real images as JPEG, in the '
        'bytes of the file</title><rect x="1" y="2" /></g></svg>'
    )
    named = name_marks(drawing)
    assert ">mine</text>" in named
    assert ">random images as JPEG</text>" in named
