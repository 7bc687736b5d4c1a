from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gencond_fast.data.labels import number_classes, shuffled_rank, stratified_split
from gencond_fast.errors import InputError

LABELS = npst.arrays(np.int64, st.integers(1, 80), elements=st.integers(0, 6))
FRACTIONS = st.floats(0.01, 0.99)


@given(labels=LABELS, fraction=FRACTIONS, seed=st.integers(0, 5))
def test_split_is_a_stratified_partition(labels, fraction, seed):
    kept, apart = stratified_split(labels, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, apart])), np.arange(len(labels)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(apart) > 0).all()
    for label in np.unique(labels):
        total, share = (labels == label).sum(), (labels[apart] == label).sum()
        assert share < total
        assert share >= (total > 1)
        assert abs(share - total * fraction) <= 1


@given(labels=LABELS, fraction=FRACTIONS, seed=st.integers(0, 5))
def test_split_is_deterministic(labels, fraction, seed):
    first, second = (stratified_split(labels, fraction, seed) for _ in range(2))
    np.testing.assert_array_equal(first[1], second[1])


def test_split_depends_on_the_seed():
    labels = np.zeros(200, dtype=np.int64)
    first, second = (set(stratified_split(labels, 0.5, seed)[1].tolist()) for seed in (0, 1))
    assert first != second


@given(labels=LABELS)
def test_rank_counts_up_within_each_class(labels):
    rank = shuffled_rank(labels, 3)
    for label in np.unique(labels):
        members = np.sort(rank[labels == label])
        np.testing.assert_array_equal(members, np.arange(len(members)))


def test_gaps_are_closed_without_names_and_kept_with_them():
    found = number_classes(np.array([7, 2, 7]), {"val": np.array([2])}, None, "d")
    assert found.names == ("2", "7")
    np.testing.assert_array_equal(found.train, [1, 0, 1])
    np.testing.assert_array_equal(found.tests["val"], [0])
    with pytest.raises(InputError, match="names the class 'b' but has no training image"):
        number_classes(np.array([0, 2]), {}, ["a", "b", "c"], "d")


def test_unsigned_labels_become_int64():
    assert number_classes(np.array([0, 1], np.uint8), {}, ["a", "b"], "d").train.dtype == np.int64


@pytest.mark.parametrize("names", [None, ["a", "b"]])
def test_negative_labels_of_tests_are_none_and_those_of_training_images_are_refused(names):
    train = np.array([0, 1, 1])
    found = number_classes(train, {"test": np.array([-1, 1, -100])}, names, "d")
    np.testing.assert_array_equal(found.tests["test"], [-1, 1, -1])
    with pytest.raises(InputError, match="negative label -1 in its train split"):
        number_classes(np.array([0, -1, 1]), {}, names, "d")


def test_classes_of_one_name_are_told_apart():
    names = ["crane", "hen", "crane", "maillot", "maillot", "crane"]
    found = number_classes(np.arange(6), {}, names, "d")
    assert found.names == (
        "crane (0)", "hen", "crane (2)", "maillot (3)", "maillot (4)", "crane (5)",
    )  # fmt: skip
    (note,) = found.notes
    assert "3 classes are called 'crane'" in note
    assert "1 more names" in note
