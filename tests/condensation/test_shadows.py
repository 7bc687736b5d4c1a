"""Halves of the training images: balanced whatever the classes, and a part is a data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.condensation.shadows import halves
from gencond_fast.data.skipping import Skipping
from gencond_fast.data.source import open_source


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 6), st.integers(0, 99))
def test_each_image_is_in_half_of_the_shadows_and_each_class_is_halved(labels, pairs, seed):
    labels = np.array(labels)
    inside = halves(labels, 2 * pairs, seed)
    assert inside.shape == (2 * pairs, len(labels))
    assert (inside.sum(0) == pairs).all()
    assert (inside[0::2] != inside[1::2]).all()
    counts = np.bincount(labels)
    for shadow in inside:
        own = np.bincount(labels[shadow], minlength=len(counts))
        assert (own >= counts // 2).all()
        assert (own <= (counts + 1) // 2).all()
    np.testing.assert_array_equal(inside, halves(labels, 2 * pairs, seed))


def test_memberships_of_two_pairs_and_of_two_images_are_independent():
    inside = halves(np.zeros(400, dtype=np.int64), 400, 1)[0::2]
    assert inside.mean() == 0.5
    spread = np.corrcoef(inside)[np.triu_indices(200, 1)]
    assert spread.mean() == pytest.approx(0.0, abs=5e-3)
    assert spread.std() == pytest.approx(1 / np.sqrt(400), rel=0.1)
    # an odd class gives its last image to either of the pair
    odd = halves(np.zeros(3, dtype=np.int64), 400, 1)[0::2].sum(1)
    assert 60 < (odd == 1).sum() < 140


@pytest.mark.parametrize("shadows", [0, 3, -2])
def test_shadows_come_in_pairs(shadows):
    with pytest.raises(ValueError, match="must be even"):
        halves(np.zeros(4, dtype=np.int64), shadows, 0)


def test_a_part_has_its_images_and_a_fingerprint_of_its_own():
    source = open_source("digits")
    rows = np.array([3, 10, 500])
    part = source.subset(rows, print)
    images = next(source.train.split.read(rows, 3))
    np.testing.assert_array_equal(next(part.train.split.read(np.arange(3), 3)), images)
    np.testing.assert_array_equal(part.train.labels, source.train.labels[rows])
    assert part.val is source.val
    other = source.subset(rows + 1, print)
    assert len({source.fingerprint, part.fingerprint, other.fingerprint}) == 3
    assert len(part.fingerprint) == len(source.fingerprint)
    assert source.subset(rows, print).fingerprint == part.fingerprint


def test_what_is_left_out_of_all_is_left_out_of_a_part():
    source = open_source("digits")
    train = replace(source.train, skip=Skipping(np.array([10, 11]), print))
    part = replace(source, train=train).subset(np.array([3, 10, 500]), print)
    assert part.train.skip is not None
    assert part.train.skip.known.tolist() == [1]
