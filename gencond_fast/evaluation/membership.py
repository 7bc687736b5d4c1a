"""How well scores tell the images that were learned from (members) from others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, roc_curve

FPRS = (0.001, 0.01)
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Strength:
    """What an attack achieves; higher scores say that an image is a member.

    Attributes:
        auc: probability that a random member scores above a random non-member, ties half.
        balanced_accuracy: mean of the true positive and true negative rates at the best threshold,
            chosen with hindsight, so that it is 0.5 or more.
        tpr: the largest true positive rate at or below each false positive rate; None where the
            false positive rate is less than one non-member.
    """

    auc: float
    balanced_accuracy: float
    tpr: dict[float, float | None]


def strength(members: np.ndarray, others: np.ndarray, fprs: Sequence[float] = FPRS) -> Strength:
    """All numbers of one attack, from its ROC curve.

    A low false positive rate matters most: an attack that is right about few images and never
    wrong is a breach (Carlini et al. 2022, 2112.03570).

    Args:
        members: scores [m] of members.
        others: scores [n] of non-members.
        fprs: false positive rates, between 0 and 1.

    Raises:
        ValueError: a score is NaN, or there is none of a kind.
    """
    scores = np.concatenate((_checked(members), _checked(others)))
    # of ranks, since scikit-learn refuses scores that are infinite
    ranks = np.unique(scores, return_inverse=True)[1]
    is_member = np.arange(len(scores)) < len(members)
    fpr, tpr, _ = roc_curve(is_member, ranks, drop_intermediate=False)
    return Strength(
        auc=float(auc(fpr, tpr)),
        balanced_accuracy=float(0.5 + 0.5 * (tpr - fpr).max()),
        tpr={
            rate: None
            if rate * len(others) < 1 - _ROUNDING
            else float(tpr[fpr <= rate + _ROUNDING].max())
            for rate in fprs
        },
    )


def auc_deviation(members: int, others: int) -> float:
    """Standard deviation of the AUC over random memberships, without ties: 0.5 is its mean."""
    return math.sqrt((members + others + 1) / (12 * members * others))


def _checked(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores must be [n] with n of 1 or more, not {list(scores.shape)}")
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")
    return scores
