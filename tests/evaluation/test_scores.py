"""Scores of accuracies against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.errors import InputError
from gencond_fast.evaluation.accuracy_scores import (
    accuracy_per_bit,
    augmentation_robust_score,
    label_robust_score,
)
from gencond_fast.evaluation.result import EvaluationResult, Row

SHARE = st.floats(0.0, 1.0)


def test_label_robust_score_by_hand():
    # IOR 0.2, HLR 0.3: a = -0.05; e^-0.05 = 0.951229, e^-1 = 0.367879, e = 2.718282
    got = label_robust_score(real_hard=0.9, stored_hard=0.6, stored_any=0.7, random_any=0.5)
    assert got == pytest.approx(0.583350 / 2.350403, abs=1e-6)
    # w = 0.25: a = 0.05 - 0.225 = -0.175; e^-0.175 = 0.839457
    got = label_robust_score(real_hard=0.9, stored_hard=0.6, stored_any=0.7, random_any=0.5, w=0.25)
    assert got == pytest.approx((0.839457 - 0.367879) / 2.350403, abs=1e-6)


def test_augmentation_robust_score_by_hand():
    # 0.5 * 0.3 + 0.5 * 0.1 = 0.2; e^0.2 = 1.221403
    values = {"stored_augmented": 0.6, "random_augmented": 0.3}
    values |= {"stored_plain": 0.4, "random_plain": 0.3}
    got = augmentation_robust_score(**values)
    assert got == pytest.approx((1.221403 - 0.367879) / 2.350403, abs=1e-6)
    # 0.9 * 0.3 + 0.1 * 0.1 = 0.28; e^0.28 = 1.323130
    got = augmentation_robust_score(**values, gamma=0.9)
    assert got == pytest.approx((1.323130 - 0.367879) / 2.350403, abs=1e-6)


def test_ends_and_middle():
    # nothing gained and nothing lost is 1 / (1 + e)
    assert label_robust_score(
        real_hard=0.5, stored_hard=0.5, stored_any=0.7, random_any=0.7
    ) == pytest.approx(0.2689414)
    assert label_robust_score(real_hard=1, stored_hard=0, stored_any=0, random_any=1) == 0
    assert augmentation_robust_score(
        stored_augmented=1, random_augmented=0, stored_plain=1, random_plain=0
    ) == pytest.approx(1)


@given(SHARE, SHARE, SHARE, SHARE, SHARE)
def test_scores_are_fractions_and_rise_with_the_condensed_set(a, b, c, d, w):
    one = label_robust_score(real_hard=a, stored_hard=b, stored_any=c, random_any=d, w=w)
    more = min(1.0, c + 0.1)
    two = label_robust_score(real_hard=a, stored_hard=b, stored_any=more, random_any=d, w=w)
    assert -1e-12 <= one <= two + 1e-12 <= 1 + 2e-12


@pytest.mark.parametrize("wrong", [-0.1, 70.5, float("nan")])
def test_percentages_are_refused(wrong):
    good = {"real_hard": 0.5, "stored_hard": 0.5, "stored_any": 0.5, "random_any": 0.5}
    for name in good:
        with pytest.raises(InputError, match="give accuracies as fractions"):
            label_robust_score(**good | {name: wrong})
    with pytest.raises(InputError, match="fractions"):
        accuracy_per_bit(wrong, 8)
    with pytest.raises(InputError, match="above 0"):
        accuracy_per_bit(0.5, 0)


def result_of(rows, soft=False) -> EvaluationResult:
    made = (Row(kind, model, 1, accuracies, 0.0, 1) for kind, model, accuracies in rows)
    return EvaluationResult(tuple(made), {"soft": soft}, 1, 80, 1.0, 4.0, 64.0, 10, None, {})


def test_an_evaluation_with_all_baselines_has_a_label_robust_score():
    rows = [
        ("stored", "a", (0.6, 0.8)),
        ("stored", "b", (0.5,)),
        ("random", "a", (0.5, 0.5)),
        ("random", "b", (0.5,)),
        ("full", "a", (0.9, 1.0)),
        ("jpeg", "b", (0.9,)),
    ]
    result = result_of(rows)
    # IOR 0.2, HLR 0.25: a = -0.025; e^-0.025 = 0.975310
    want = {"a": pytest.approx((0.975310 - 0.367879) / 2.350403, abs=1e-6)}
    assert result.label_robust_scores == want
    plain = result.to_dict()
    assert plain["label_robust_scores"] == want
    assert plain["rows"][0]["accuracy_per_bit"] == pytest.approx(0.7 / 64)
    assert "accuracy_per_bit" not in plain["rows"][2]
    assert result_of(rows, soft=True).label_robust_scores == {}
