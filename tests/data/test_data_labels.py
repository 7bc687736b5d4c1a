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
    names, train, val = number_classes(np.array([7, 2, 7]), np.array([2]), None, "d")
    assert names == ("2", "7")
    np.testing.assert_array_equal(train, [1, 0, 1])
    np.testing.assert_array_equal(val, [0])
    with pytest.raises(InputError, match="names the class 'b' but has no training image"):
        number_classes(np.array([0, 2]), None, ["a", "b", "c"], "d")


def test_unsigned_labels_become_int64():
    _, train, _ = number_classes(np.array([0, 1], np.uint8), None, ["a", "b"], "d")
    assert train.dtype == np.int64
