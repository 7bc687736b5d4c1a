"""Confidences and likelihood ratios against scipy and plain formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from gencond_fast.evaluation.lira import (
    confidences,
    loss_scores,
    offline_scores,
    online_scores,
)


@given(st.integers(0, 10**6), st.integers(0, 20), st.integers(2, 12))
def test_confidences_are_those_of_the_probabilities(seed, count, classes):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=rng)
    labels = torch.randint(classes, (count,), generator=rng)
    got = confidences(logits, labels)
    p = logits.double().softmax(1).gather(1, labels[:, None])[:, 0]
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, (p / (1 - p)).log(), rtol=1e-8, atol=1e-8)
    loss = -F.cross_entropy(logits.double(), labels, reduction="none")
    torch.testing.assert_close(torch.from_numpy(loss_scores(got.numpy())), loss)


def test_sure_networks_are_not_rounded():
    logits = torch.tensor([[90.0, 0.0, 0.0], [91.0, 0.0, 0.0], [-1e4, 0.0, 0.0]])
    got = confidences(logits, torch.zeros(3, dtype=torch.int64)).numpy()
    np.testing.assert_allclose(got, np.array([90.0, 91.0, -1e4]) - np.log(2), rtol=1e-12)
    scores = loss_scores(got)
    assert np.isfinite(scores).all()
    assert scores[1] > scores[0] > scores[2]


def test_nan_stays_nan():
    logits = torch.tensor([[torch.nan, 1.0], [0.0, 1.0]])
    got = confidences(logits, torch.zeros(2, dtype=torch.int64))
    assert got.isnan().tolist() == [True, False]


def drawn(seed, inside, outside, count):
    rng = np.random.default_rng(seed)
    place = rng.normal(0, 5, count)
    ins = place + 1 + rng.normal(0, rng.uniform(0.1, 3), (inside, count))
    outs = place + rng.normal(0, rng.uniform(0.1, 3), (outside, count))
    return place + rng.normal(0, 2, count), ins, outs


def deviations(samples, shared):
    count = samples.shape[1]
    variances = [np.var(samples[:, i], ddof=1) for i in range(count)]
    return np.sqrt([np.mean(variances)] * count if shared else variances)


@given(
    st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9), st.integers(1, 30), st.booleans()
)
def test_likelihood_ratio(seed, inside, outside, count, shared):
    target, ins, outs = drawn(seed, inside, outside, count)
    want = norm.logpdf(target, ins.mean(0), deviations(ins, shared))
    want = want - norm.logpdf(target, outs.mean(0), deviations(outs, shared))
    got = online_scores(target, ins, outs, shared_variance=shared)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 30), st.booleans())
def test_one_sided_test(seed, outside, count, shared):
    target, _, outs = drawn(seed, 2, outside, count)
    got = offline_scores(target, outs, shared_variance=shared)
    # 1 - Pr[Z > phi], as the paper has it
    want = 1 - norm.sf(target, outs.mean(0), deviations(outs, shared))
    np.testing.assert_allclose(norm.cdf(got), want, rtol=1e-9, atol=1e-12)


def test_shadows_that_agree_divide_by_nothing():
    same = np.zeros((3, 2))
    for shared in (True, False):
        scores = offline_scores(np.array([1.0, -1.0]), same, shared_variance=shared)
        assert scores[0] > 0 > scores[1]
        assert not np.isnan(scores).any()


def test_one_shadow_has_no_variance():
    for call in (
        lambda: offline_scores(np.zeros(2), np.zeros((1, 2)), shared_variance=True),
        lambda: online_scores(
            np.zeros(2), np.zeros((1, 2)), np.zeros((2, 2)), shared_variance=False
        ),
    ):
        with pytest.raises(ValueError, match="2 shadow models or more"):
            call()
