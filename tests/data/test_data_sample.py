from __future__ import annotations

import numpy as np
import pytest
import torch
from image_builders import Picture, write_npz

from gencond_fast.data import draw_sample, open_source
from gencond_fast.errors import InputError


@pytest.fixture
def source(tmp_path):
    """Three classes of 9, 9 and 4 images; every pixel of an image is its place in the set."""
    counts = {"ant": 9, "bee": 9, "cow": 4}
    order = np.random.default_rng(0).permutation([n for n, c in counts.items() for _ in range(c)])
    made = [
        Picture(str(name), "", np.full((6, 6), place, np.uint8)) for place, name in enumerate(order)
    ]
    return open_source(str(write_npz(tmp_path / "made.npz", made)))


def draw(source, **options):
    defaults = {"image_size": 6, "per_class": 5, "max_bytes": 10**6, "seed": 0}
    return draw_sample(source, **{**defaults, **options})


def places(sample) -> list[int]:
    return sample.images[:, 0, 0, 0].tolist()


def test_sample_is_balanced_without_repetition_and_labelled_right(source):
    sample = draw(source)
    assert sample.images.shape == (14, 1, 6, 6)
    assert sample.images.dtype == torch.uint8
    assert sample.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 4
    assert len(set(places(sample))) == 14
    np.testing.assert_array_equal(source.train.labels[places(sample)], sample.labels.numpy())


def test_sample_is_random_and_repeats_with_its_seed(source):
    assert places(draw(source)) == places(draw(source))
    assert places(draw(source)) == places(draw(source, workers=3))
    assert places(draw(source)) != places(draw(source, seed=1))
    assert places(draw(source))[:5] != sorted(places(draw(source))[:5])


def test_fewer_images_are_the_first_of_more(source):
    many, few = places(draw(source, per_class=8)), places(draw(source, per_class=2))
    assert few == many[:2] + many[8:10] + many[16:18]


@pytest.mark.parametrize(("images", "expected"), [(3, 3), (8, 6), (13, 12), (15, 14), (99, 22)])
def test_sample_keeps_to_its_bytes(source, images, expected):
    sample = draw(source, per_class=100, max_bytes=images * 36 + 1)
    assert len(sample.images) == expected
    assert sample.images.nbytes <= images * 36 + 1


def test_too_few_bytes(source):
    with pytest.raises(InputError, match=r"3 classes takes 108 bytes and 107 are allowed"):
        draw(source, max_bytes=107)


def test_per_class_must_be_positive(source):
    with pytest.raises(ValueError, match="per_class must be positive"):
        draw(source, per_class=0)
