"""Counts against hand counts, and noise in place of data that are not at hand."""

from __future__ import annotations

import numpy as np
import pytest
from image_builders import pictures, write_tree

from gencond_fast.condensation.run import sized_metadata
from gencond_fast.condensation.task import choose_image_size, open_config, set_up
from gencond_fast.config.options import resolve
from gencond_fast.data.normalise import Normalisation
from gencond_fast.errors import InputError
from gencond_fast.planning.count import count
from gencond_fast.planning.noise import noise_source
from gencond_fast.system.progress import Reporter

# three convolutions of width 64 with biases and norms, and the last layer
WEIGHTS = 64 * 9 + 2 * 64 * 64 * 9 + 3 * (64 + 2 * 64) + 64 * 16 * 10 + 10
NONE = dict.fromkeys(
    ("experts", "teachers", "labels", "decoded", "coding", "warm", "trajectory"), 0
)
ALL_IMAGES = {
    "store": {"soft_labels": 2},
    "labels": {"source": "full_data"},
    "teachers": {"count": 2},
}
NOISE = {
    "store": {"format": "generator"},
    "networks": {"random": 0},
    "training": {"init": "noise"},
}
GENERATOR = NOISE | {"training": {"coding_steps": 1250}}


def counted(options: dict, preset: str = "standard") -> dict[str, int]:
    config = resolve({"data": "digits", "out": "", "ipc": 10}, options, preset=preset)
    source = open_config(config, Reporter())
    size = choose_image_size(config, source)
    blank = Normalisation((0.1,) * source.channels, (0.1,) * source.channels)
    spec = sized_metadata(config, source, size, blank).store
    return count(set_up(config, source, size, Reporter()), spec)


@pytest.mark.parametrize(
    ("options", "preset", "want"),
    [
        # at most 1000 images of a class: all 1438 of them, of 64 bytes
        ({}, "quick", NONE | {"sample": 1438, "bank": 1438, "networks": 60 + 190 + 600}),
        ({}, "quick", {"match": 100, "checkpoints": 1, "held": 1438 * 64}),
        # the warm start ends with one of the checkpoints
        (NOISE, "standard", {"coding": 0, "warm": 2000, "match": 2000, "checkpoints": 40}),
        (GENERATOR, "standard", {"coding": 1250, "warm": 0, "match": 100, "checkpoints": 15}),
        # after 100, 200, ... 1000 steps
        (ALL_IMAGES, "accurate", {"match": 100, "trajectory": 1000, "checkpoints": 11}),
        (ALL_IMAGES, "accurate", {"experts": 3 * 5 * 1438, "teachers": 2 * 20 * 1438}),
        (ALL_IMAGES, "accurate", {"held": 1438 * 64 + 3 * 21 * 4 * WEIGHTS}),
    ],
)
def test_counts_of_the_digits(options, preset, want):
    found = counted(options, preset)
    assert {name: found[name] for name in want} == want


@pytest.mark.parametrize(("switch", "decoded"), [("on", 12), ("off", 18)])
def test_counts_of_images_that_are_decoded(tmp_path, switch, decoded):
    data = str(write_tree(tmp_path / "tree", pictures(6)))
    networks = {"train_images": 2, "real_per_class": None}
    found = counted({"data": data, "in_memory": switch, "networks": networks})
    assert (found["sample"], found["bank"], found["decoded"]) == (6, 18, decoded)


def test_noise_is_a_data_set_of_its_numbers():
    options = {"data": "", "out": "", "image_size": 16}
    source = noise_source(100, 4, resolve(options))
    assert (len(source.train), len(source.val), source.channels) == (100, 4, 3)
    assert np.bincount(source.train.labels).tolist() == [25] * 4
    (block,) = source.train.split.read(np.arange(5), 8)
    assert block.shape == (5, 16, 16, 3)
    assert block.dtype == np.uint8
    assert block.std() > 50
    with pytest.raises(InputError, match="are for data that are at hand"):
        noise_source(100, 4, resolve(options, {"val_fraction": 0.1}))
