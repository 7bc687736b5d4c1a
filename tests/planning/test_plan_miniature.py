"""Counts against hand counts, and a miniature that is the same run but for its size."""

from __future__ import annotations

import numpy as np
import pytest
from image_builders import pictures, write_tree

from gencond_fast.condensation.run import sized_metadata
from gencond_fast.condensation.task import Setting, choose_image_size, open_config, set_up
from gencond_fast.config.options import resolve
from gencond_fast.planning.counts import count
from gencond_fast.planning.miniature import blank, choose_classes, shrink
from gencond_fast.planning.noise import noise_source
from gencond_fast.system.progress import Reporter


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))


def opened(options: dict, preset: str = "standard", source=None) -> tuple[Setting, object]:
    config = resolve({"data": "digits", "out": ""}, options, preset=preset)
    source = source or open_config(config, Reporter())
    size = choose_image_size(config, source)
    setting = set_up(config, source, size, Reporter())
    return setting, sized_metadata(config, source, size, blank(source)).store


def counted(options: dict, preset: str = "standard", source=None):
    return count(*opened(options, preset, source))


def test_counts_of_the_digits():
    found = counted({"ipc": 10}, "quick")
    assert (found.classes, found.images, found.image_bytes) == (10, 1438, 64)
    assert found.sampled == found.measured == 1438  # at most 1000 of a class
    assert (found.encoded, found.kept) == (False, 0)
    assert (found.networks, found.train_steps) == (4, (60, 190, 600))
    # means and deviations of 64 maps of 4 x 4 features under 7 augmentations
    assert found.table_bytes == 4 * 7 * 10 * (64 * 16) * 2 * 4
    assert (found.warm_steps, found.match_steps, found.checkpoints) == (0, 1200, 12)
    assert (found.step_classes, found.step_images) == (10, 320)
    assert found.samples % 10 == 0
    assert found.parameters % found.samples == 0  # so many coefficients each
    assert (found.experts, found.teachers, found.label_batches) == (0, 0, 0)


def test_counts_of_a_generator_that_is_fitted_first():
    options = {"ipc": 10, "store": {"format": "generator"}, "training": {"class_batch": 4}}
    found = counted(options)
    assert (found.warm_steps, found.match_steps) == (2000, 2000)
    assert found.checkpoints == 40  # the warm start ends with one of them
    assert (found.step_classes, found.step_images) == (4, 4 * 32)
    assert found.centre_bytes == 4 * 4 * (128 * 16)  # 128 maps of 4 x 4 features


def test_counts_of_what_learns_from_all_images():
    options = {
        "ipc": 10,
        "store": {"soft_labels": 2},
        "labels": {"source": "full_data"},
        "teachers": {"count": 2},
    }
    found = counted(options, "accurate")
    assert found.checkpoints == 10  # after 100, 200, ... 1000 steps
    assert (found.experts, found.expert_epochs, found.trajectory_steps) == (3, 10, 600)
    # three convolutions of width 64 with biases and norms, and the last layer
    weights = 64 * 9 + 2 * 64 * 64 * 9 + 3 * (64 + 2 * 64) + 64 * 16 * 10 + 10
    assert found.weight_bytes == 4 * weights
    assert found.expert_bytes == 3 * 41 * 4 * weights
    assert (found.teachers, found.teacher_epochs) == (2, 20)
    assert found.label_batches == -(-found.samples // 128)


@pytest.mark.parametrize(("switch", "kept"), [("on", 6), ("off", 0)])
def test_counts_of_images_that_are_decoded(tmp_path, switch, kept):
    data = write_tree(tmp_path / "tree", pictures(6))
    options = {
        "data": str(data),
        "bytes": 20_000,
        "in_memory": switch,
        "networks": {"train_images": 2, "real_per_class": None},
    }
    found = counted(options)
    assert (found.encoded, found.sampled, found.measured, found.kept) == (True, 6, 18, kept)


@pytest.mark.parametrize("kind", ["dct", "generator", "pixels"])
def test_a_miniature_has_the_samples_of_the_run(tmp_path, kind):
    setting, spec = opened({"ipc": 10, "store": {"format": kind}}, "quick")
    small, part = shrink(setting, spec, 10, str(tmp_path / "run"))
    made = sized_metadata(small, part, 8, blank(part)).store
    assert (made.per_class, made.coefficients) == (spec.per_class, spec.coefficients)
    assert (made.width, made.code_channels) == (spec.width, spec.code_channels)
    assert abs(made.stream_bytes - spec.stream_bytes) <= 16
    own, full = (
        count(Setting(small, part, 8, setting.runtime, Reporter()), made),
        count(setting, spec),
    )
    assert own.images < full.images
    for name in ("parameters", "samples", "networks", "table_bytes", "step_images", "weight_bytes"):
        assert getattr(own, name) == getattr(full, name), name
    assert sum(own.train_steps) < sum(full.train_steps)
    assert own.match_steps == 21


def test_a_miniature_of_fewer_classes_has_their_images_alone(tmp_path):
    setting, spec = opened({"ipc": 10}, "quick")
    small, part = shrink(setting, spec, 3, str(tmp_path / "run"))
    assert part.class_names == setting.source.class_names[:3]
    assert set(np.unique(part.train.labels)) == set(np.unique(part.val.labels)) == {0, 1, 2}
    assert part.fingerprint != setting.source.fingerprint
    made = sized_metadata(small, part, 8, blank(part)).store
    assert (made.num_classes, made.per_class) == (3, spec.per_class)
    ratio = made.stream_bytes / spec.stream_bytes
    assert ratio == pytest.approx(0.3, abs=0.01)


def test_classes_are_left_out_where_memory_is_short():
    source = noise_source(2000, 200, 32)
    options = {"ipc": 1, "image_size": 32}
    found = counted(options, source=source)
    assert choose_classes(found, 1 << 40) == 200
    few = choose_classes(found, 1 << 30)
    assert 3 <= few < 200
    assert choose_classes(found, 1 << 20) == 4
    # a step of fewer classes takes less, so that more of them fit
    batches = counted({**options, "training": {"class_batch": 2}}, source=source)
    assert choose_classes(batches, 1 << 30) > few


def test_noise_is_a_data_set_of_its_numbers():
    source = noise_source(100, 4, 16)
    assert (len(source.train), len(source.val), source.channels) == (100, 4, 3)
    assert np.bincount(source.train.labels).tolist() == [25] * 4
    (block,) = source.train.split.read(np.arange(5), 8)
    assert block.shape == (5, 16, 16, 3)
    assert block.dtype == np.uint8
    assert block.std() > 50
