"""class_moments against a brute force in float64, on every instruction set of this machine."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from moment_cases import DTYPES, ISAS, assert_moments, brute_force, set_isa, with_layout
from torch import Tensor

import gencond_fast as gf
from gencond_fast import _ext
from gencond_fast.errors import InputError
from gencond_fast.functional import ops, reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "d", "c"), [(1, 1, 1), (7, 3, 3), (1000, 100, 10), (500, 33, 499), (2049, 17, 2)]
)
def test_matches_brute_force(isa: str, n: int, d: int, c: int, dtype: torch.dtype) -> None:
    x = torch.randn(n, d).to(dtype)
    labels = torch.randint(c, (n,))
    assert_moments(gf.class_moments(x, labels, c), brute_force(x, labels, c))


def test_blocks_of_columns(isa: str) -> None:
    x = torch.randn(700, 2500)
    labels = (torch.rand(700) * 2).long()
    assert_moments(gf.class_moments(x, labels, 3), brute_force(x, labels, 3))


@given(
    n=st.integers(0, 300),
    d=st.integers(1, 70),
    c=st.integers(1, 12),
    dtype=st.sampled_from(DTYPES),
    ragged=st.booleans(),
    layout=st.sampled_from(["dense", "transposed", "rows", "columns"]),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_layout(n, d, c, dtype, ragged, layout, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = with_layout(torch.randn(2 * n, 2 * d, generator=generator).to(dtype), layout)
    u = torch.rand(2 * n, generator=generator)[::2]
    labels = ((u**4 if ragged else u) * c).long()
    for name in ISAS:
        set_isa(name)
        assert_moments(gf.class_moments(x, labels, c), brute_force(x, labels, c))


def test_expanded_rows(isa: str) -> None:
    x = torch.randn(1, 20).expand(300, 20)
    labels = torch.zeros(300, dtype=torch.int64)
    got = gf.class_moments(x, labels, 1)
    torch.testing.assert_close(got.mean, x[:1])
    assert got.m2.max() < 1e-10


@pytest.mark.parametrize("sigma", [1.0, 1e-3])
def test_mean_far_from_zero(isa: str, sigma: float) -> None:
    x = (torch.randn(6000, 40) + 1e4) * sigma
    labels = torch.randint(5, (6000,))
    assert_moments(gf.class_moments(x, labels, 5), brute_force(x, labels, 5), 6 * sigma)


def test_outlying_first_samples(isa: str) -> None:
    x = torch.randn(4000, 24)
    x[:8] += 1e4
    labels = torch.zeros(4000, dtype=torch.int64)
    got, want = gf.class_moments(x, labels, 1), brute_force(x, labels, 1)
    torch.testing.assert_close(got.mean.double(), want.mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(got.m2.double(), want.m2, rtol=1e-5, atol=0)


def test_empty_and_single_sample_classes(isa: str) -> None:
    x = torch.randn(3, 19)
    got = gf.class_moments(x, torch.tensor([5, 1, 3]), 7)
    assert got.count.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert torch.equal(got.mean[[5, 1, 3]], x)
    assert not got.mean[::2].any()
    assert not got.m2.any()


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0)])
def test_nothing_in_gives_zeros(shape: tuple[int, int], impl: str) -> None:
    x = torch.zeros(shape, requires_grad=True)
    got = gf.class_moments(x, torch.zeros(shape[0], dtype=torch.int64), 3, impl=impl)
    assert got.count.tolist() == [shape[0], 0, 0]
    assert got.mean.shape == got.m2.shape == (3, shape[1])
    assert not got.mean.any()
    (got.mean.sum() + got.m2.sum()).backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("position", [0, 1, 599])
def test_not_finite_stays_in_its_class_and_column(isa, bad, position, dtype) -> None:
    x = torch.randn(1800, 21).to(dtype)
    labels = torch.arange(1800) % 3
    row = int((labels == 1).nonzero()[position])
    want = gf.class_moments(x, labels, 3)
    x[row, 20] = bad
    got = gf.class_moments(x, labels, 3)
    hit = torch.zeros(3, 21, dtype=torch.bool)
    hit[1, 20] = True
    assert torch.equal(~got.mean.isfinite(), hit)
    assert torch.equal(got.m2.isnan(), hit)
    assert torch.equal(got.mean[~hit], want.mean[~hit])
    assert torch.equal(got.m2[~hit], want.m2[~hit])


@pytest.mark.parametrize("n", [300, 20000])
def test_threads_do_not_change_a_bit(isa: str, n: int) -> None:
    x = torch.randn(n, 70)
    labels = (torch.rand(n) ** 3 * 40).long()
    results = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        results.append(gf.class_moments(x, labels, 40))
    for other in results[1:]:
        assert torch.equal(other.mean, results[0].mean)
        assert torch.equal(other.m2, results[0].m2)


@given(cut=st.integers(0, 400), seed=st.integers(0, 2**31), offset=st.sampled_from([0.0, 1e4]))
def test_merge_is_the_whole_whatever_the_cut(cut: int, seed: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(400, 7, generator=generator, dtype=torch.float64) + offset
    labels = (torch.rand(400, generator=generator) ** 2 * 9).long()
    left = gf.class_moments(x[:cut], labels[:cut], 10)
    right = gf.class_moments(x[cut:], labels[cut:], 10)
    whole = gf.class_moments(x, labels, 10)
    for merged in (left.merge(right), right.merge(left)):
        assert torch.equal(merged.count, whole.count)
        torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(merged.m2, whole.m2, rtol=1e-9, atol=1e-11)


def test_merge_keeps_the_wider_dtype_and_wants_equal_shapes() -> None:
    x, labels = torch.randn(9, 4), torch.arange(9) % 3
    single, double = gf.class_moments(x, labels, 3), gf.class_moments(x.double(), labels, 3)
    assert single.merge(single).mean.dtype == torch.float32
    assert single.merge(double).m2.dtype == torch.float64
    with pytest.raises(ValueError, match=r"\[3, 4\] and \[4, 4\]"):
        single.merge(gf.class_moments(x, labels, 4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        single.count = double.count  # type: ignore[misc]


def test_variance() -> None:
    x, labels = torch.randn(50, 4), torch.tensor([0] * 30 + [1] * 18 + [2] * 2)
    moments = gf.class_moments(x, labels, 4)
    for correction in (0, 1):
        want = x[30:48].var(0, correction=correction)
        torch.testing.assert_close(moments.variance(correction)[1], want)
    assert not moments.variance()[3].any()
    assert not moments.variance(2)[2].any()
    with pytest.raises(ValueError, match="correction"):
        moments.variance(-1)


def test_gradient_is_right(isa: str) -> None:
    x = torch.randn(23, 11, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (23,))
    assert torch.autograd.gradcheck(lambda x: ops.class_moments(x, labels, 6)[1:], x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gradient_of_lower_precision(isa: str, dtype: torch.dtype) -> None:
    x = (torch.randn(500, 83) + 2).to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    labels = (torch.rand(500) ** 2 * 9).long()
    weights = torch.randn(2, 10, 83)
    for impl, leaf in (("auto", x), ("reference", exact)):
        m = gf.class_moments(leaf, labels, 10, impl=impl)
        (m.mean * weights[0] + m.m2 * weights[1]).sum().backward()
    assert x.grad is not None
    assert exact.grad is not None
    assert x.grad.dtype == dtype
    error = (x.grad.double() - exact.grad).abs()
    eps = torch.finfo(dtype).eps
    assert bool((error <= eps * exact.grad.abs() + 1e-5).all()), error.max()


def test_gradient_of_one_moment_alone_and_of_a_strided_input() -> None:
    base = torch.randn(40, 26, requires_grad=True)
    labels = torch.arange(40) % 3
    for moment in ("mean", "m2"):
        grads = []
        for impl in ("auto", "reference"):
            out = getattr(gf.class_moments(base[:, ::2], labels, 3, impl=impl), moment)
            grads += torch.autograd.grad(out.square().sum(), base)
        torch.testing.assert_close(grads[0], grads[1])


SAMPLES = {
    "plain": (torch.randn(40, 9), torch.randint(4, (40,)), 4),
    "half": (torch.randn(40, 9).half(), torch.randint(4, (40,)), 4),
    "strided": (torch.randn(40, 18)[::2, ::2], torch.randint(4, (40,))[::2], 9),
    "empty": (torch.randn(0, 9), torch.zeros(0, dtype=torch.int64), 1),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_opcheck(name: str) -> None:
    x, labels, c = SAMPLES[name]
    torch.library.opcheck(torch.ops.gencond.class_moments.default, (x, labels, c))
    count, mean, m2 = torch.ops.gencond.class_moments(x, labels, c)
    arguments = (mean, m2, x, labels, count, mean)
    torch.library.opcheck(torch.ops.gencond.class_moments_backward.default, arguments)


@pytest.mark.parametrize("name", ops.SCHEMAS)
def test_schema_is_the_same_in_both_languages(name: str) -> None:
    schema = getattr(torch.ops.gencond, name).default._schema
    assert str(schema) == f"gencond::{ops.SCHEMAS[name]}"


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_whole(backend: str) -> None:
    labels = torch.randint(4, (64,))

    def loss(x: Tensor) -> Tensor:
        moments = gf.class_moments(x * 2, labels, 4)
        return moments.variance().sum() + moments.mean.square().sum()

    x = torch.randn(64, 5, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    grads = [torch.autograd.grad(f(x), x)[0] for f in (loss, compiled)]
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("label", [-1, 4, 2**62, -(2**63)])
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_label_out_of_range(label: int, impl: str) -> None:
    labels = torch.tensor([0, label, 3])
    with pytest.raises(IndexError, match=rf"label {label} .* 0 \.\.\. 3 "):
        gf.class_moments(torch.randn(3, 2), labels, 4, impl=impl)


def test_label_out_of_range_in_the_part_of_another_thread() -> None:
    labels = torch.zeros(30_000, dtype=torch.int64)
    labels[-1] = 9
    with pytest.raises(IndexError, match=r"label 9 .* 0 \.\.\. 3 "):
        gf.class_moments(torch.randn(30_000, 1), labels, 4)


def test_backward_op_checks_what_it_reads() -> None:
    x, labels = torch.randn(3, 2), torch.tensor([0, 1, 2])
    count, mean, m2 = torch.ops.gencond.class_moments(x, labels, 3)
    backward = torch.ops.gencond.class_moments_backward
    with pytest.raises((IndexError, RuntimeError)):
        backward(mean, m2, x, labels + 1, count, mean)
    if _ext.available():
        with pytest.raises(ValueError, match=r"expected shape \[3, 2\], got \[3, 1\]"):
            backward(mean[:, :1], m2, x, labels, count, mean)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"features": [1.0]}, TypeError, "features must be a tensor, got list"),
        ({"features": torch.zeros(3, 2, dtype=torch.int32)}, TypeError, "int32"),
        ({"features": torch.zeros(3)}, ValueError, r"\[N, D\], got shape \[3\]"),
        ({"labels": torch.zeros(3)}, TypeError, "integers, got torch.float32"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, ValueError, r"shape \[3\].* shape \[4\]"),
        ({"num_classes": 2.0}, TypeError, "num_classes must be an int, got float"),
        ({"num_classes": True}, TypeError, "got bool"),
        ({"num_classes": 0}, ValueError, "1 or more, got 0"),
        ({"impl": "quick"}, ValueError, "'quick'"),
    ],
)
def test_wrong_arguments(change: dict, error: type[Exception], said: str) -> None:
    arguments = {
        "features": torch.zeros(3, 2),
        "labels": torch.zeros(3, dtype=torch.int64),
        "num_classes": 1,
    }
    with pytest.raises(error, match=said):
        gf.class_moments(**(arguments | change))


def test_fused_runs_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = torch.randn(5, 2), torch.zeros(5, dtype=torch.int64)
    if _ext.available():
        got = gf.class_moments(x, labels, 1, impl="fused")
        assert torch.equal(got.mean, gf.class_moments(x, labels, 1).mean)
    monkeypatch.setattr(_ext, "module", None)
    monkeypatch.setattr(_ext, "reason", "the compiler was on holiday.")
    with pytest.raises(InputError, match="holiday"):
        gf.class_moments(x, labels, 1, impl="fused")


@pytest.mark.skipif(not _ext.available(), reason="needs the C++ extension")
def test_unknown_instruction_set() -> None:
    assert _ext.module is not None
    with pytest.raises(ValueError, match="SSE9"):
        _ext.module.set_cpu_isa("SSE9")


def test_reference_agrees_with_brute_force() -> None:
    x, labels = torch.randn(200, 13) + 100, torch.randint(6, (200,))
    got = gf.ClassMoments(*reference.class_moments(x, labels, 7))
    assert_moments(got, brute_force(x, labels, 7))
