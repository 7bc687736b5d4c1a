"""How long students learn, on training sets of different sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import gencond_fast as gf
from gencond_fast.config import EvaluateConfig
from gencond_fast.errors import InputError
from gencond_fast.evaluation.student_epochs import student_epochs

TINY = {"data": "digits", "models": ["convnet3@4"], "seeds": 1, "progress": False}


@pytest.mark.parametrize(
    ("options", "steps", "stored", "epochs"),
    [
        ({"epochs": 8}, 61, 61, 8),  # the condensed images themselves
        ({"epochs": 8}, 1, 61, 488),  # few images: as many steps
        ({"epochs": 8}, 2, 61, 244),
        ({"epochs": 8}, 60, 61, 9),
        ({"epochs": 8}, 196, 61, 8),  # all real images: as many epochs
        ({"student_steps": 100}, 1, 61, 100),
        ({"student_steps": 100}, 61, 61, 2),  # whole epochs
        ({"student_steps": 100}, 196, 61, 1),
        ({"student_steps": 122}, 61, 61, 2),
    ],
)
def test_epochs(options, steps, stored, epochs):
    config = EvaluateConfig(run="", data="", **options)
    assert student_epochs(config, steps, stored) == epochs


def test_baselines_of_few_images_have_the_steps_of_the_file(tiny_run):
    result = gf.evaluate(tiny_run, baselines=["random", "jpeg", "full"], epochs=2, **TINY)
    stored, random, jpeg, full = result.rows
    assert stored.epochs == result.epochs == 2
    assert random.steps >= stored.steps
    assert jpeg.steps >= stored.steps
    assert (full.epochs, full.steps) == (2, 12)  # 1,438 images in batches of 256


def test_steps_that_are_asked_for_are_those_of_every_student(tiny_run):
    asked = {"student_steps": 7, **TINY}
    result = gf.evaluate(tiny_run, baselines=["random", "full"], without_augmentation=True, **asked)
    for row in result.rows:
        batches = row.steps // row.epochs
        assert 7 <= row.steps < 7 + batches, row
    again = gf.evaluate(tiny_run, baselines=["random"], **TINY, student_steps=3)
    assert 3 <= again.rows[1].steps < 7  # not the students of before


def test_both_are_refused(tiny_run):
    with pytest.raises(InputError, match="--epochs or for --student-steps"):
        gf.evaluate(tiny_run, epochs=3, student_steps=7, **TINY)


def test_classes_of_different_sizes_are_told(tmp_path):
    labels = np.repeat([0, 1], [4, 60])
    images = np.random.default_rng(0).integers(0, 99, (64, 8, 8)) + 99 * labels[:, None, None]
    np.savez(tmp_path / "set.npz", images=images.astype(np.uint8), labels=labels)
    options = {"bytes": 4000, "training": {"steps": 2}, "networks": {"width": 4, "train_steps": 2}}
    path = gf.condense(
        tmp_path / "set.npz", out=tmp_path / "run", preset="quick", val_fraction=0.25, **options
    )
    data = {"data": str(tmp_path / "set.npz")}
    result = gf.evaluate(path, **(TINY | data), epochs=1, baselines=["random", "full"])
    random, full = result.rows[1:]
    assert (random.images, full.images) == ("3 to 8", "3 to 45")
    assert "3 to 8" in result.table()
    again = type(result).from_dict(result.to_dict())
    assert again.rows[1].images == "3 to 8"
    assert replace(random, fewest_per_class=None, most_per_class=None).images == "8"
