"""All attacks by membership inference, on what students say of images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gencond_fast.evaluation.lira import loss_scores, offline_scores, online_scores
from gencond_fast.evaluation.membership import FPRS, auc_deviation, strength

_ENOUGH = 64  # shadows from which on each image has a variance of its own, as 2112.03570 advises
_Pair = tuple[np.ndarray, np.ndarray]  # scores of members and of others


@dataclass(frozen=True)
class AuditRow:
    """One attack on one kind of target.

    Attributes:
        attack: `loss`, `lira offline` or `lira online`.
        target: `file`, whose members are training images and whose non-members are test images; or
            `shadows`, whose members and non-members are training images, in it or not.
        members: how many were asked about, for the target with the fewest.
        non_members: likewise.
        auc, balanced_accuracy: one for each student of the file or for each shadow.
        tpr: true positive rates, likewise, by false positive rate; None where there are too few
            non-members for it.
    """

    attack: str
    target: str
    members: int
    non_members: int
    auc: tuple[float, ...]
    balanced_accuracy: tuple[float, ...]
    tpr: dict[str, tuple[float, ...] | None]

    @property
    def chance(self) -> float:
        """Standard deviation of one AUC around 0.5 where the attack knows nothing."""
        return auc_deviation(self.members, self.non_members)

    def summary(self) -> dict[str, Any]:
        """Means and standard deviations, by the names that they have in the JSON."""
        found: dict[str, Any] = {"chance": self.chance}
        for name, each in (("auc", self.auc), ("balanced_accuracy", self.balanced_accuracy)):
            found |= {f"{name}_mean": statistics.fmean(each), f"{name}_std": deviation(each)}
        known = {rate: each for rate, each in self.tpr.items() if each is not None}
        found["tpr_mean"] = {rate: statistics.fmean(each) for rate, each in known.items()}
        found["tpr_std"] = {rate: deviation(each) for rate, each in known.items()}
        return found


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def attack_rows(
    own: np.ndarray, shadows: np.ndarray, is_member: np.ndarray, inside: np.ndarray | None
) -> tuple[AuditRow, ...]:
    """Attacks the file, and with shadows each of them by the others.

    Args:
        own: confidences [S, N] by students of the file.
        shadows: confidences [K, N] by the student of each shadow; 2 i and 2 i + 1 are complements.
        is_member: bool [N], which images the file was made from.
        inside: bool [K, N], which images each shadow was made from; of an image that is no member,
            which of each pair is left out, so that it is compared with as many as members are.
            None where there are no shadows.
    """
    rows = [_row("loss", "file", [_split(loss_scores(each), is_member) for each in own])]
    if inside is None:
        return tuple(rows)
    shared = len(shadows) < _ENOUGH
    with_it, without = _by_pair(shadows, inside)
    scores = (offline_scores(each, without, shared_variance=shared) for each in own)
    rows.append(_row("lira offline", "file", [_split(each, is_member) for each in scores]))
    with_it, without = with_it[:, is_member], without[:, is_member]
    pairs: dict[str, list[_Pair]] = {"loss": [], "lira offline": [], "lira online": []}
    targets = zip(shadows[:, is_member], inside[:, is_member], strict=True)
    for number, (target, its_members) in enumerate(targets):
        rest = np.arange(len(without)) != number // 2  # its complement would tell who is in it
        ins, outs = with_it[rest], without[rest]
        found = {
            "loss": loss_scores(target),
            "lira offline": offline_scores(target, outs, shared_variance=shared),
            "lira online": online_scores(target, ins, outs, shared_variance=shared),
        }
        for attack, values in found.items():
            pairs[attack].append(_split(values, its_members))
    return (*rows, *(_row(attack, "shadows", each) for attack, each in pairs.items()))


def _by_pair(values: np.ndarray, inside: np.ndarray) -> _Pair:
    """Of each pair of shadows the value with the image and that without: [K / 2, N] each."""
    even, odd = values[0::2], values[1::2]
    return np.where(inside[0::2], even, odd), np.where(inside[0::2], odd, even)


def _split(scores: np.ndarray, is_member: np.ndarray) -> _Pair:
    return scores[is_member], scores[~is_member]


def _row(attack: str, target: str, pairs: list[_Pair]) -> AuditRow:
    found = [strength(*pair) for pair in pairs]

    def rates(fpr: float) -> tuple[float, ...] | None:
        values = tuple(rate for each in found if (rate := each.tpr[fpr]) is not None)
        return values if len(values) == len(found) else None

    return AuditRow(
        attack=attack,
        target=target,
        members=min(len(members) for members, _ in pairs),
        non_members=min(len(others) for _, others in pairs),
        auc=tuple(each.auc for each in found),
        balanced_accuracy=tuple(each.balanced_accuracy for each in found),
        tpr={str(fpr): rates(fpr) for fpr in FPRS},
    )
