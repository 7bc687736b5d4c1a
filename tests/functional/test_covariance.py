"""Covariances against NumPy, and the Frechet distance against SciPy's matrix square root."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from moment_cases import DTYPES, with_layout
from torch import Tensor

import gencond_fast as gf


def assert_covariances(got: gf.ClassCovariances, x: Tensor, labels: Tensor, eps: float) -> None:
    for c in range(len(got.count)):
        rows = x.double()[labels == c].numpy()
        assert int(got.count[c]) == len(rows)
        if len(rows) == 0:
            assert not got.mean[c].any()
            assert not got.scatter[c].any()
            continue
        offset = float(np.abs(rows).max())
        np.testing.assert_allclose(got.mean[c], rows.mean(0), rtol=0, atol=1e-14 * offset)
        size = float(np.square(rows - rows.mean(0)).sum(0).max())
        want = np.atleast_2d(np.cov(rows.T, ddof=0)) * len(rows)
        slip = eps * size + 1e-14 * offset * np.sqrt(size * len(rows)) + 1e-26 * offset**2
        np.testing.assert_allclose(got.scatter[c], want, rtol=0, atol=slip)


@given(
    n=st.integers(0, 200),
    d=st.integers(1, 12),
    c=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    dtype=st.sampled_from(DTYPES),
    scatter=st.sampled_from([torch.float32, torch.float64]),
    offset=st.sampled_from([0.0, 1e4]),
    layout=st.sampled_from(["dense", "transposed", "rows", "columns"]),
    seed=st.integers(0, 2**31),
)
def test_against_numpy_whatever_the_cut(
    n, d, c, cuts, dtype, scatter, offset, layout, seed
) -> None:
    rng = torch.Generator().manual_seed(seed)
    x = with_layout((torch.randn(2 * n, 2 * d, generator=rng) + offset).to(dtype), layout)
    labels = (torch.rand(n, generator=rng) ** 2 * c).long()
    parts = gf.ClassCovariances.zeros(c, d, dtype=scatter)
    merged = gf.ClassCovariances.zeros(c, d, dtype=scatter)
    where = sorted(min(cut, n) for cut in cuts)
    for rows, own in zip(x.tensor_split(where), labels.tensor_split(where), strict=True):
        parts.update_(rows, own)
        merged = merged.merge(gf.class_covariances(rows, own, c, dtype=scatter))
    whole = gf.class_covariances(x, labels, c, dtype=scatter)
    for found in (parts, merged, whole):
        assert found.scatter.dtype == scatter
        assert_covariances(found, x, labels, 32 * torch.finfo(scatter).eps)


def test_a_data_set_in_batches_is_one_class() -> None:
    x = torch.randn(1500, 40) @ torch.randn(40, 40) + 7
    stream = gf.ClassCovariances.zeros(1, 40)
    for batch in x.split(256):
        assert stream.update_(batch) is stream
    np.testing.assert_allclose(stream.covariance()[0], np.cov(x.double().T), rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(
        gf.class_covariances(x).covariance(correction=0)[0], np.cov(x.double().T, ddof=0), atol=1e-9
    )


def test_more_rows_than_are_copied_at_a_time() -> None:
    x, labels = torch.randn(9000, 3) + 5, torch.arange(9000) % 2
    assert_covariances(gf.class_covariances(x, labels, 2), x, labels, 1e-13)


def test_agrees_with_the_moments() -> None:
    x, labels = torch.randn(300, 20, dtype=torch.float64), torch.arange(300) % 3
    covariances, moments = gf.class_covariances(x, labels, 4), gf.class_moments(x, labels, 4)
    diagonal = covariances.scatter.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonal, moments.m2)
    torch.testing.assert_close(covariances.mean, moments.mean)
    torch.testing.assert_close(
        covariances.covariance().diagonal(dim1=1, dim2=2), moments.variance(correction=1)
    )


def test_other_classes_are_not_touched() -> None:
    covariances = gf.ClassCovariances.zeros(5, 3)
    covariances.scatter.fill_(torch.nan)
    covariances.scatter[2] = 0
    covariances.update_(torch.randn(6, 3), torch.full((6,), 2))
    assert covariances.scatter[2].isfinite().all()
    assert covariances.scatter[[0, 1, 3, 4]].isnan().all()
    assert covariances.count.tolist() == [0, 0, 6, 0, 0]


def test_not_finite_stays_in_its_class_row_and_column() -> None:
    x, labels = torch.randn(40, 4), torch.arange(40) % 2
    x[1, 2] = torch.nan
    found = gf.class_covariances(x, labels, 2)
    hit = torch.zeros(2, 4, 4, dtype=torch.bool)
    hit[1, 2, :] = hit[1, :, 2] = True
    assert torch.equal(found.scatter.isnan(), hit)


def test_takes_values_and_records_nothing() -> None:
    x = torch.randn(9, 3, requires_grad=True)
    found = gf.class_covariances(x)
    assert not found.scatter.requires_grad
    assert not gf.frechet_distance(found, found).requires_grad


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacfwd, torch.func.hessian])
def test_derivatives_are_refused_rather_than_zero(transform) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(6, 3)
    target = gf.class_covariances(2 * x)

    def distance(features: Tensor) -> Tensor:
        return gf.frechet_distance(gf.class_covariances(features), target).sum()

    with pytest.raises(RuntimeError, match="record no gradient"):
        transform(distance)(x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(RuntimeError, match="record no gradient"):
            gf.class_covariances(dual)


def test_errors() -> None:
    empty = gf.ClassCovariances.zeros(2, 3)
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match="4 classes of 1000 x 1000 torch.float64 take 32000000"):
        gf.ClassCovariances.zeros(4, 1000, most_bytes=10**6)
    with pytest.raises(ValueError, match="most_bytes = 4294967296"):
        gf.ClassCovariances.zeros(1000, 2048)
    with pytest.raises(ValueError, match="most_bytes = 10"):
        gf.class_covariances(x, most_bytes=10)
    with pytest.raises(TypeError, match="float32 or float64, got torch.bfloat16"):
        gf.ClassCovariances.zeros(1, 2, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="labels must be given, for there are 2 classes"):
        empty.update_(x)
    with pytest.raises(IndexError, match=r"label 2 .* 0 \.\.\. 1 "):
        empty.update_(x, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(IndexError, match=r"label -1 "):
        gf.class_covariances(x, torch.tensor([0, 1, -1, 0]), 2)
    with pytest.raises(ValueError, match="features have 4 columns, but these covariances 3"):
        empty.update_(torch.randn(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"\[2, 3, 3\] and \[1, 3, 3\]"):
        empty.merge(gf.ClassCovariances.zeros(1, 3))
    with pytest.raises(ValueError, match="correction must be 0 or more, got -1"):
        empty.covariance(-1)
    with pytest.raises(ValueError, match=r"frechet_distance: .*\[2, 3, 3\] and \[2, 4, 4\]"):
        gf.frechet_distance(empty, gf.ClassCovariances.zeros(2, 4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        empty.count = empty.count  # type: ignore[misc]
    assert not empty.count.any()


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    s, t = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = scipy.linalg.sqrtm(s @ t)
    return float(np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s + t - 2 * root.real))


@given(d=st.integers(1, 12), c=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_distance_against_scipy(d: int, c: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    samples = []
    for offset in (0.0, 1.5):
        mix = torch.randn(d, d, generator=rng, dtype=torch.float64)
        samples.append(torch.randn(60 * c, d, generator=rng, dtype=torch.float64) @ mix + offset)
    labels = torch.arange(60 * c) % c
    a, b = (gf.class_covariances(x, labels, c) for x in samples)
    got = gf.frechet_distance(a, b)
    assert got.shape == (c,)
    assert got.dtype == torch.float64
    for k in range(c):
        want = by_scipy(*(x[labels == k].numpy() for x in samples))
        assert float(got[k]) == pytest.approx(want, rel=1e-6, abs=1e-9)
    torch.testing.assert_close(gf.frechet_distance(b, a), got, rtol=1e-9, atol=1e-9)


def test_distance_known_in_closed_form() -> None:
    """Diagonal covariances commute: the distance is that of means and standard deviations."""
    rng = torch.Generator().manual_seed(0)
    covariances, moments = [], []
    for _ in range(2):
        count = torch.tensor([10])
        mean, sigma = (torch.rand(1, 7, generator=rng, dtype=torch.float64) for _ in range(2))
        scatter = torch.diag_embed(sigma.square()) * 9
        covariances.append(gf.ClassCovariances(count, mean, scatter))
        moments.append((mean, sigma))
    want = sum((p - q).square().sum() for p, q in zip(*moments, strict=True))
    torch.testing.assert_close(gf.frechet_distance(*covariances), want[None])


def test_distance_of_the_same_samples_fewer_than_columns() -> None:
    x = torch.randn(20, 60, dtype=torch.float64) * 3
    a, b = gf.class_covariances(x), gf.class_covariances(x.flip(0))
    assert float(gf.frechet_distance(a, b).abs()) < 1e-10
    moved = gf.class_covariances(x + 2)
    assert float(gf.frechet_distance(a, moved)) == pytest.approx(4 * 60, rel=1e-10)


def test_distance_where_there_is_none() -> None:
    x, labels = torch.randn(30, 5), torch.arange(30) % 3
    x[1, 2] = torch.nan
    a = gf.class_covariances(x, labels, 4)
    b = gf.class_covariances(torch.randn(8, 5), torch.tensor([0] * 3 + [1] * 3 + [2, 3]), 4)
    assert gf.frechet_distance(a, b).isnan().tolist() == [False, True, True, True]
