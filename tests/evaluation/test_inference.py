"""The attacks on made-up answers: nothing is found in noise, and what was planted is found."""

from __future__ import annotations

import numpy as np
import pytest

from gencond_fast.condensation.shadows import halves
from gencond_fast.evaluation.inference import attack_rows
from gencond_fast.evaluation.lira import offline_scores, online_scores
from gencond_fast.evaluation.membership import strength

MEMBERS, OTHERS, CLASSES = 600, 400, 5


def world(shadows: int, effect: float, seed: int = 0):
    """Answers of easy and hard images, raised by `effect` where a model has seen the image."""
    rng = np.random.default_rng(seed)
    kinds = [rng.permutation(np.arange(count) % CLASSES) for count in (MEMBERS, OTHERS)]
    inside = np.concatenate([halves(labels, shadows, 7 + i) for i, labels in enumerate(kinds)], 1)
    is_member = np.arange(MEMBERS + OTHERS) < MEMBERS
    hardness = 3 * rng.normal(size=MEMBERS + OTHERS)
    seen = np.concatenate((np.tile(is_member, (2, 1)), inside & is_member))
    answers = hardness + rng.normal(size=(2 + shadows, MEMBERS + OTHERS)) + effect * seen
    return answers[:2], answers[2:], is_member, inside


def by_name(rows):
    return {(row.attack, row.target): row for row in rows}


@pytest.mark.parametrize("shadows", [6, 64])
def test_nothing_is_found_where_nothing_is(shadows):
    rows = attack_rows(*world(shadows, 0.0))
    assert len(rows) == 5
    for row in rows:
        deviation = row.chance / np.sqrt(len(row.auc))
        assert np.mean(row.auc) == pytest.approx(0.5, abs=4 * deviation)
        assert max(abs(np.array(row.auc) - 0.5)) < 5 * row.chance
        members = np.array(row.tpr["0.01"])  # a share of the members and of the others drawn alike
        error = np.sqrt(0.01 / row.members + 0.01 / row.non_members)
        assert members.mean() == pytest.approx(0.01, abs=5 * error)
        assert row.tpr["0.001"] is None


@pytest.mark.parametrize("shadows", [6, 64])
def test_shadows_find_what_the_loss_hides(shadows):
    found = by_name(attack_rows(*world(shadows, 1.5)))
    loss, offline, online = (
        np.mean(found[attack, "shadows"].auc) for attack in ("loss", "lira offline", "lira online")
    )
    # of Gaussians 1.5 apart, if the mean without the image was known
    assert 0.86 > offline > 0.78 > 0.65 > loss > 0.55
    assert online > 0.78
    assert np.mean(found["lira offline", "file"].auc) > 0.78 > np.mean(found["loss", "file"].auc)


def test_the_numbers_are_of_shadows_but_for_target_and_complement():
    own, shadows, is_member, inside = world(8, 0.7)
    rows = by_name(attack_rows(own, shadows, is_member, inside))
    for target in range(8):
        others = [k for k in range(8) if k // 2 != target // 2]
        seen = [[shadows[k, i] for k in others if inside[k, i]] for i in range(MEMBERS)]
        unseen = [[shadows[k, i] for k in others if not inside[k, i]] for i in range(MEMBERS)]
        ins, outs = np.array(seen).T, np.array(unseen).T
        assert len(ins) == len(outs) == 3
        in_it = inside[target, :MEMBERS]
        phi = shadows[target, :MEMBERS]
        for attack, scores in (
            ("lira online", online_scores(phi, ins, outs, shared_variance=True)),
            ("lira offline", offline_scores(phi, outs, shared_variance=True)),
            ("loss", phi),
        ):
            want = strength(scores[in_it], scores[~in_it]).auc
            assert rows[attack, "shadows"].auc[target] == pytest.approx(want)


def test_without_shadows_there_is_one_row():
    own, _, is_member, _ = world(6, 1.0)
    (row,) = attack_rows(own, np.zeros((0, own.shape[1])), is_member, None)
    assert (row.attack, row.target, row.members, row.non_members) == ("loss", "file", 600, 400)
    assert row.summary()["auc_mean"] == pytest.approx(np.mean(row.auc))
    assert row.summary()["auc_std"] == pytest.approx(np.std(row.auc, ddof=1))
    assert list(row.summary()["tpr_mean"]) == ["0.01"]


def test_nan_is_refused():
    own, shadows, is_member, inside = world(6, 0.0)
    own[0, 3] = np.nan
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="NaN"):
        attack_rows(own, shadows, is_member, inside)
