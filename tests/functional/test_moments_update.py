"""Class moments updated in place, against the moments of all samples at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from moment_cases import DTYPES, ISAS, assert_moments, brute_force, set_isa, with_layout
from torch import Tensor

import gencond_fast as gf
from gencond_fast import _ext
from gencond_fast.functional import reference

TABLES = [torch.float32, torch.float64]
both_tables = pytest.mark.parametrize("table", TABLES)


def updated(x: Tensor, labels: Tensor, cuts: list[int], moments: gf.ClassMoments) -> None:
    for rows, own in zip(x.tensor_split(cuts), labels.tensor_split(cuts), strict=True):
        assert moments.update_(rows, own) is moments


def tables(moments: gf.ClassMoments) -> list[Tensor]:
    return [table.clone() for table in moments.tables]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@given(
    n=st.integers(0, 600),
    d=st.integers(1, 40),
    c=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 600), max_size=6),
    dtype=st.sampled_from(DTYPES),
    table=st.sampled_from(TABLES),
    offset=st.sampled_from([0.0, 1e4]),
    layout=st.sampled_from(["dense", "transposed", "rows", "columns"]),
    isa=st.sampled_from(ISAS),
    seed=st.integers(0, 2**31),
)
def test_any_cut_gives_the_whole(n, d, c, cuts, dtype, table, offset, layout, isa, seed) -> None:
    set_isa(isa)
    generator = torch.Generator().manual_seed(seed)
    x = with_layout((torch.randn(2 * n, 2 * d, generator=generator) + offset).to(dtype), layout)
    labels = (torch.rand(n, generator=generator) ** 3 * c).long()
    moments = gf.ClassMoments.zeros(c, d, dtype=table)
    updated(x, labels, sorted(min(cut, n) for cut in cuts), moments)
    assert moments.mean.dtype == moments.m2.dtype == table
    want = brute_force(x, labels, c)
    assert torch.equal(moments.count, want.count)
    # sums within a batch are in the features' precision, and each merge rounds to the tables'
    sums = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    size = max(float(x.double().abs().max()), 1.0) if n else 1.0
    spread = max(float(want.m2.max().sqrt()), 1.0)
    rounds = torch.finfo(table).eps * size * (len(cuts) + 1)
    slip = rounds + 8 * sums * spread
    assert bool(((moments.mean.double() - want.mean).abs() <= slip).all())
    error = (moments.m2.double() - want.m2).abs()
    assert bool((error <= 1e-6 * want.m2 + 4 * slip * spread * want.count[:, None]).all())


def test_the_order_of_batches_does_not_matter(isa: str) -> None:
    x, labels = torch.randn(1200, 30) + 1e3, (torch.rand(1200) ** 2 * 8).long()
    want = brute_force(x, labels, 9)
    for _ in range(4):
        moments = gf.ClassMoments.zeros(9, 30, dtype=torch.float64)
        for part in torch.randperm(1200).split(97):
            moments.update_(x[part], labels[part])
        torch.testing.assert_close(moments.mean, want.mean, rtol=1e-9, atol=0)
        torch.testing.assert_close(moments.m2, want.m2, rtol=1e-6, atol=0)


@both_tables
@pytest.mark.parametrize("n", [300, 20000])
def test_threads_do_not_change_a_bit(isa: str, n: int, table: torch.dtype) -> None:
    x, labels = torch.randn(n, 70), (torch.rand(n) ** 3 * 40).long()
    results = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        moments = gf.ClassMoments.zeros(40, 70, dtype=table)
        updated(x, labels, [n // 3, n // 2], moments)
        results.append(tables(moments))
    assert all(same(other, results[0]) for other in results[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_first_batch_is_class_moments_to_the_bit(isa: str, dtype: torch.dtype) -> None:
    x, labels = torch.randn(900, 1100).to(dtype), (torch.rand(900) ** 2 * 30).long()
    whole = gf.class_moments(x, labels, 40)
    moments = gf.ClassMoments.zeros(40, 1100, dtype=whole.mean.dtype).update_(x, labels)
    assert same(tables(moments), list(whole.tables))


def test_ten_thousand_batches_lose_nothing_in_float64() -> None:
    x = torch.randn(10_000, 4, 6, dtype=torch.float64) + 1e4
    moments = gf.ClassMoments.zeros(2, 6, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 0])
    for batch in x:
        moments.update_(batch, labels)
    want = brute_force(x.flatten(0, 1), labels.repeat(10_000), 2)
    torch.testing.assert_close(moments.mean, want.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(moments.m2, want.m2, rtol=1e-10, atol=0)
    single = gf.ClassMoments.zeros(2, 6)  # what float64 is there for
    for batch in x[:2000]:
        single.update_(batch, labels)
    first = brute_force(x[:2000].flatten(0, 1), labels.repeat(2000), 2)
    assert float((single.m2 - first.m2).abs().max() / first.m2.max()) > 1e-10


def test_other_classes_are_neither_read_nor_written(isa: str) -> None:
    moments = gf.ClassMoments.zeros(50, 33)
    moments.mean.fill_(torch.nan)
    moments.m2.fill_(-7.0)
    moments.count.fill_(3)
    for c in (4, 17):
        moments.mean[c], moments.m2[c], moments.count[c] = 0.0, 0.0, 0
    before = tables(moments)
    labels = torch.tensor([4, 17, 4])
    x = torch.randn(3, 33)
    moments.update_(x, labels)
    others = torch.ones(50, dtype=torch.bool)
    others[[4, 17]] = False
    for old, new in zip(before, moments.tables, strict=True):
        torch.testing.assert_close(new[others], old[others], rtol=0, atol=0, equal_nan=True)
    assert_moments(
        gf.ClassMoments(moments.count[[4, 17]], moments.mean[[4, 17]], moments.m2[[4, 17]]),
        brute_force(x, (labels == 17).long(), 2),
    )


@both_tables
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("batch", [0, 1])
def test_not_finite_stays_in_its_class_and_column(isa, bad, batch, table) -> None:
    x, labels = torch.randn(2, 300, 21), torch.arange(300) % 3
    x[batch, 1, 20] = bad
    moments = gf.ClassMoments.zeros(3, 21, dtype=table)
    for rows in x:
        moments.update_(rows, labels)
    hit = torch.zeros(3, 21, dtype=torch.bool)
    hit[1, 20] = True
    assert torch.equal(~moments.mean.isfinite(), hit)
    assert torch.equal(moments.m2.isnan(), hit)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e18])
def test_very_small_and_very_large_numbers(isa: str, scale: float) -> None:
    x, labels = torch.randn(400, 19) * scale, torch.arange(400) % 3
    moments = gf.ClassMoments.zeros(3, 19, dtype=torch.float64)
    updated(x, labels, [150], moments)
    want = brute_force(x, labels, 3)
    smallest = 2.0**-149  # some of which are lost where numbers are denormal
    torch.testing.assert_close(moments.mean, want.mean, rtol=0, atol=1e-6 * scale + 8 * smallest)
    if scale > 1:  # float32 cannot hold the squares of the others
        torch.testing.assert_close(moments.m2, want.m2, rtol=1e-5, atol=0)


def test_a_first_mean_whose_square_overflows() -> None:
    x = torch.full((3, 2), 1e200, dtype=torch.float64)
    moments = gf.ClassMoments.zeros(1, 2, dtype=torch.float64)
    moments.update_(x, torch.zeros(3, dtype=torch.int64))
    assert moments.mean.tolist() == [[1e200] * 2]
    assert moments.merge(gf.ClassMoments.zeros(1, 2)).m2.tolist() == [[0.0] * 2]
    assert gf.ClassMoments.zeros(1, 2).merge(moments).m2.tolist() == [[0.0] * 2]


@pytest.mark.parametrize(("n", "d"), [(0, 5), (4, 0)])
def test_nothing_to_add(n: int, d: int) -> None:
    moments = gf.ClassMoments.zeros(3, d).update_(torch.zeros(n, d), torch.zeros(n).long())
    assert moments.count.tolist() == [n, 0, 0]
    assert not moments.mean.any()


@both_tables
@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_pytorch_agrees(isa: str, dtype: torch.dtype, table: torch.dtype) -> None:
    x, labels = (torch.randn(90, 17) + 5).to(dtype), (torch.rand(90) ** 2 * 7).long()
    op, plain = (gf.ClassMoments.zeros(8, 17, dtype=table) for _ in range(2))
    for rows, own in zip(x.split(40), labels.split(40), strict=True):
        op.update_(rows, own)
        reference.class_moments_update_(*plain.tables, rows, own)
    assert torch.equal(op.count, plain.count)
    torch.testing.assert_close(op.mean, plain.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(op.m2, plain.m2, rtol=1e-5, atol=1e-5)


def test_takes_values_and_records_nothing() -> None:
    x = torch.randn(5, 3, requires_grad=True)
    moments = gf.ClassMoments.zeros(2, 3).update_(x * 2, torch.tensor([0, 1, 1, 0, 1]))
    assert not moments.mean.requires_grad
    assert not moments.m2.requires_grad


def test_autograd_notices_a_table_that_changed() -> None:
    moments = gf.class_moments(torch.randn(6, 3), torch.arange(6) % 2, 2)
    w = torch.ones(2, 3, requires_grad=True)
    loss = (w * moments.mean).sum()
    moments.update_(torch.randn(6, 3), torch.arange(6) % 2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@both_tables
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype: torch.dtype, table: torch.dtype) -> None:
    x, labels = torch.randn(40, 18).to(dtype)[:, ::2], torch.randint(4, (40,))
    moments = gf.ClassMoments.zeros(4, 9, dtype=table)
    arguments = (*moments.tables, x, labels)
    torch.library.opcheck(torch.ops.gencond.class_moments_update_.default, arguments)


def test_compiles_whole() -> None:
    x, labels = torch.randn(64, 5), torch.randint(4, (64,))

    def step(mean: Tensor, m2: Tensor, count: Tensor) -> Tensor:
        return gf.ClassMoments(count, mean, m2).update_(x * 2, labels).mean + 1

    results = []
    for function in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        moments = gf.ClassMoments.zeros(4, 5).update_(x, labels)
        results.append([function(moments.mean, moments.m2, moments.count), *tables(moments)])
    assert same(*results)


@pytest.mark.parametrize("label", [-1, 3, 2**62])
def test_a_refused_batch_changes_nothing(label: int) -> None:
    moments = gf.ClassMoments.zeros(3, 2).update_(torch.randn(4, 2), torch.tensor([0, 1, 2, 0]))
    before = tables(moments)
    with pytest.raises(IndexError, match=rf"label {label} .* 0 \.\.\. 2 "):
        moments.update_(torch.randn(3, 2), torch.tensor([0, label, 1]))
    with pytest.raises(IndexError, match=rf"label {label} .* 0 \.\.\. 2 "):
        reference.class_moments_update_(
            *moments.tables, torch.randn(3, 2), torch.tensor([0, label, 1])
        )
    assert same(before, tables(moments))


def test_wrong_arguments() -> None:
    x, labels = torch.randn(3, 2), torch.tensor([0, 1, 1])
    moments = gf.ClassMoments.zeros(2, 2)
    with pytest.raises(ValueError, match="features have 5 columns, but these moments 2"):
        moments.update_(torch.randn(3, 5), labels)
    with pytest.raises(TypeError, match="update_: labels must be integers"):
        moments.update_(x, labels.float())
    strided = gf.ClassMoments(moments.count, torch.zeros(2, 4)[:, ::2], moments.m2)
    with pytest.raises(ValueError, match=r"mean must be contiguous, got strides \(4, 2\)"):
        strided.update_(x, labels)
    graph = gf.class_moments(x.requires_grad_(), labels, 2)
    with pytest.raises(ValueError, match="mean requires grad .* detach"):
        graph.update_(x, labels)
    with pytest.raises(TypeError, match="float32 or float64, got torch.float16"):
        gf.ClassMoments.zeros(2, 2, dtype=torch.float16)
    with pytest.raises(ValueError, match="num_classes must be 1 or more, got 0"):
        gf.ClassMoments.zeros(0, 2)
    with pytest.raises(ValueError, match="width must be 0 or more, got -1"):
        gf.ClassMoments.zeros(2, -1)


@pytest.mark.skipif(not _ext.available(), reason="needs the C++ extension")
@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"count": torch.zeros(3)}, TypeError, "count must be int64"),
        ({"mean": torch.zeros(3, 2).half()}, TypeError, "both be float32 or both float64"),
        ({"m2": torch.zeros(3, 2).double()}, TypeError, "both be float32 or both float64"),
        ({"mean": torch.zeros(2, 2)}, ValueError, r"shape \[3, 2\].* got \[2, 2\]"),
        ({"m2": torch.zeros(3, 3)}, ValueError, r"shape \[3, 2\].* got \[3, 3\]"),
        ({"mean": torch.zeros(2, 3).T}, ValueError, "must be contiguous"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, ValueError, "one entry for each of the 4"),
    ],
)
def test_the_op_checks_what_it_writes(change: dict, error: type[Exception], said: str) -> None:
    arguments = {
        "count": torch.zeros(3, dtype=torch.int64),
        "mean": torch.zeros(3, 2),
        "m2": torch.zeros(3, 2),
        "features": torch.zeros(4, 2),
        "labels": torch.zeros(4, dtype=torch.int64),
    }
    with pytest.raises(error, match=said):
        torch.ops.gencond.class_moments_update_(**(arguments | change))
