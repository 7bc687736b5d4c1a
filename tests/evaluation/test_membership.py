"""Attack strengths against all thresholds and pairs one by one, and against two Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from gencond_fast.evaluation.membership import FPRS, auc_deviation, strength

# few values, so that most scores are tied
SCORES = st.lists(st.sampled_from([-np.inf, -2.5, -1.0, 0.0, 0.5, 3.0, np.inf]), min_size=1)
RATES = st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.9, 0.999])


def rates(members, others):
    """False and true positive rates of every rule `score >= threshold`, and of none at all."""
    return [(0.0, 0.0)] + [
        (np.mean([o >= t for o in others]), np.mean([m >= t for m in members]))
        for t in {*members, *others}
    ]


@given(SCORES, SCORES, RATES)
def test_numbers_are_those_of_all_pairs_and_of_the_best_threshold(members, others, fpr):
    found = strength(np.array(members), np.array(others), [fpr])
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert found.auc == pytest.approx(np.mean(pairs))
    best = max((tpr + 1 - each) / 2 for each, tpr in rates(members, others))
    assert found.balanced_accuracy == pytest.approx(best)
    if fpr * len(others) < 1 - 1e-9:
        assert found.tpr[fpr] is None
    else:
        want = max(tpr for each, tpr in rates(members, others) if each <= fpr + 1e-12)
        assert found.tpr[fpr] == pytest.approx(want)


@pytest.mark.parametrize("apart", [0.0, 0.7, 2.0])
def test_two_gaussians(apart):
    count, rng = 200_000, np.random.default_rng(3)
    found = strength(rng.normal(apart, 1, count), rng.normal(0, 1, count))
    for fpr in FPRS:
        want = norm.cdf(apart - norm.isf(fpr))
        # from the threshold, which is an order statistic, and from counting members above it
        slope = norm.pdf(apart - norm.isf(fpr)) / norm.pdf(norm.isf(fpr))
        error = np.sqrt((want * (1 - want) + slope**2 * fpr * (1 - fpr)) / count)
        assert found.tpr[fpr] == pytest.approx(want, abs=5 * error)
    assert found.auc == pytest.approx(norm.cdf(apart / np.sqrt(2)), abs=5e-3)
    assert found.balanced_accuracy == pytest.approx(norm.cdf(apart / 2), abs=5e-3)


def test_chance_spreads_as_stated():
    rng = np.random.default_rng(0)
    areas = [strength(rng.normal(size=30), rng.normal(size=50)).auc for _ in range(500)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.01)
    assert np.std(areas) == pytest.approx(auc_deviation(30, 50), rel=0.1)


@pytest.mark.parametrize(("others", "known"), [(999, False), (1000, True)])
def test_a_rate_below_one_image_is_not_known(others, known):
    found = strength(np.ones(3), np.zeros(others))
    assert (found.tpr[0.001] is not None) == known
    assert found.tpr[0.01] == 1.0


def test_sets_apart_and_constant_scores():
    apart = strength(np.arange(200.0) + 1000, np.arange(2000.0) / 10)
    assert (apart.auc, apart.balanced_accuracy, apart.tpr) == (1.0, 1.0, {0.001: 1.0, 0.01: 1.0})
    constant = strength(np.zeros(200), np.zeros(2000))
    assert (constant.auc, constant.balanced_accuracy) == (0.5, 0.5)
    assert constant.tpr == {0.001: 0.0, 0.01: 0.0}


def test_what_cannot_be_ranked_is_refused():
    fine = np.array([0.0, 1.0])
    for bad in (np.array([0.0, np.nan]), np.zeros(0), np.zeros((2, 2))):
        for pair in ((bad, fine), (fine, bad)):
            with pytest.raises(ValueError, match="scores must"):
                strength(*pair)
