"""What is said of data and budget before hours are spent on them."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import call

import gencond_fast as gf

SHORT = ("--steps", 0, "--set", "compile=off")


def write(folder, counts, side=8, seed=0):
    """An npz of gray images, so many of each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 256, (len(labels), side, side), dtype=np.uint8)
    np.savez(folder / "train.npz", images=images, labels=labels)
    return folder


@pytest.mark.parametrize("counts", [(60, 60, 1), (50, 2, 3, 80)])
def test_the_budget_is_used_and_the_rare_classes_are_named(tmp_path, counts):
    data = write(tmp_path, counts)
    done = call("condense", "--data", data, "--out", tmp_path / "run", "--bytes", 6000, *SHORT)
    assert done.code == 0, done.err
    size = (tmp_path / "run" / "condensed.safetensors").stat().st_size
    assert 5000 < size <= 6000
    dataset = gf.CondensedDataset(tmp_path / "run")
    stored = len(dataset) // len(counts)
    assert stored > min(counts)
    rare = sum(count < stored for count in counts)
    assert f"{rare} rare class" in done.err
    assert f"with {min(counts)})" in done.err
    # every sample of the rarest class differs from the others
    own = [
        dataset[i][0].numpy().tobytes()
        for i in np.flatnonzero(np.equal(dataset.targets, counts.index(min(counts))))
    ]
    assert len(set(own)) > min(counts)


def test_even_classes_are_no_matter_for_a_note(tmp_path):
    data = write(tmp_path, (30, 30))
    done = call("condense", "--data", data, "--out", tmp_path / "run", "--bytes", 2000, *SHORT)
    assert done.code == 0, done.err
    assert "rare" not in done.err
    assert "larger than all" not in done.err


def test_a_budget_beyond_all_images_is_told_with_the_number(tmp_path):
    data = write(tmp_path, (12, 12), side=16)
    done = call("condense", "--data", data, "--out", tmp_path / "run", "--bytes", 60_000, *SHORT)
    assert done.code == 0, done.err
    assert "is larger than all 24 training images as JPEG" in done.err


def test_data_without_a_test_split_are_told_and_no_evaluation_is_suggested(tmp_path):
    data = write(tmp_path, (30, 30))
    done = call("condense", "--data", data, "--out", tmp_path / "run", "--bytes", 2000, *SHORT)
    assert "have no test split with labels" in done.err
    assert "next:" not in done.out
    done = call(
        "condense",
        "--data",
        data,
        "--out",
        tmp_path / "held",
        "--bytes",
        2000,
        *SHORT,
        "--val-fraction",
        0.1,
    )
    assert "no test split" not in done.err
    assert f"next: gencond-fast evaluate {tmp_path / 'held'}" in done.out
