"""How well scores tell the images that were learned from (members) from others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FPRS = (0.001, 0.01)
_ROUNDING = 1e-9  # of a rate times a count


@dataclass(frozen=True)
class Strength:
    """What an attack achieves; higher scores say that an image is a member.

    Attributes:
        auc: probability that a random member scores above a random non-member, ties half.
        balanced_accuracy: mean of the true positive and true negative rates at the best threshold,
            chosen with hindsight, so that it is 0.5 or more.
        tpr: true positive rate by false positive rate, for `FPRS`; None where there are too few
            non-members for it.
    """

    auc: float
    balanced_accuracy: float
    tpr: dict[float, float | None]


def strength(members: np.ndarray, others: np.ndarray) -> Strength:
    """All numbers of one attack.

    Args:
        members: scores [m] of members.
        others: scores [n] of non-members.

    Raises:
        ValueError: a score is NaN, or there is none of a kind.
    """
    return Strength(
        auc=auc(members, others),
        balanced_accuracy=balanced_accuracy(members, others),
        tpr={fpr: tpr_at_fpr(members, others, fpr) for fpr in FPRS},
    )


def tpr_at_fpr(members: np.ndarray, others: np.ndarray, fpr: float) -> float | None:
    """The largest share of members above a threshold that at most `fpr` of the others are above.

    None where `fpr` of the others is less than one of them (Carlini et al. 2022, 2112.03570, argue
    for low rates: an attack that is right about few images and never wrong is a breach).

    Args:
        members: scores [m].
        others: scores [n].
        fpr: 0 < fpr < 1.

    Raises:
        ValueError: the rate is out of range, a score is NaN, or there is none of a kind.
    """
    if not 0.0 < fpr < 1.0:
        raise ValueError(f"fpr must be between 0 and 1, not {fpr}")
    members, others = _checked(members), _checked(others)
    allowed = math.floor(fpr * len(others) + _ROUNDING)
    if allowed == 0:
        return None
    threshold = np.sort(others)[-1 - allowed]  # so many are strictly above it, or fewer
    return float((members > threshold).mean())


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Area under the ROC curve, as Mann and Whitney's U over m n; ties count half.

    Args:
        members: scores [m].
        others: scores [n].

    Raises:
        ValueError: a score is NaN, or there is none of a kind.
    """
    members, others = _checked(members), np.sort(_checked(others))
    below = np.searchsorted(others, members, side="left")
    not_above = np.searchsorted(others, members, side="right")
    return float((below + not_above).sum() / (2 * len(members) * len(others)))


def auc_deviation(members: int, others: int) -> float:
    """Standard deviation of the AUC over random memberships, without ties: 0.5 is its mean."""
    return math.sqrt((members + others + 1) / (12 * members * others))


def balanced_accuracy(members: np.ndarray, others: np.ndarray) -> float:
    """The mean of true positive and true negative rates at the threshold where it is largest.

    Args:
        members: scores [m].
        others: scores [n].

    Raises:
        ValueError: a score is NaN, or there is none of a kind.
    """
    members, others = np.sort(_checked(members)), np.sort(_checked(others))
    thresholds = np.concatenate((members, others))
    tpr = 1.0 - np.searchsorted(members, thresholds, side="left") / len(members)
    fpr = 1.0 - np.searchsorted(others, thresholds, side="left") / len(others)
    return float(0.5 + 0.5 * max(0.0, (tpr - fpr).max()))


def _checked(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores must be [n] with n of 1 or more, not {list(scores.shape)}")
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")
    return scores
