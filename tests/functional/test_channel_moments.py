"""channel_moments against a brute force, in every layout and on every instruction set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from channel_cases import DTYPES, LAYOUTS, assert_moments, brute_force, in_layout
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import gencond_fast as gf
from gencond_fast import _ext
from gencond_fast.errors import InputError
from gencond_fast.functional import ops, reference
from gencond_fast.functional.checks import Impl

ISAS = _ext.build_info().get("cpu_isas", "none").split(",")
DENSE = ["contiguous", "channels last"]
# pieces, rows and chunks of every size: long planes, planes with a rest, rows of whole samples,
# more rows than fit a chunk, positions that share a row and some that are left over
SHAPES = [
    (1, 1),
    (3, 1),
    (2, 300),
    (4001, 7),
    (2500, 16),
    (7, 3, 2),
    (600, 33, 2, 2),
    (3, 2, 190, 181),
    (90, 5, 17, 19),
    (5, 3, 2, 3, 4),
    (2, 8, 5, 9, 7),
    (70, 100, 3, 5),
]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    found = gf.channel_moments(x)
    return found.mean, found.m2


@pytest.mark.parametrize("layout", DENSE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_brute_force(isa: str, shape: tuple[int, ...], layout: str) -> None:
    for dtype in DTYPES:
        x = in_layout(torch.randn(shape).add(1).to(dtype), layout)
        found = gf.channel_moments(x)
        assert found.count == x.numel() // x.shape[1]
        assert found.mean.dtype == reference.accumulation_dtype(dtype)
        assert_moments(found.mean, found.m2, brute_force(x))


@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    samples=st.integers(0, 40),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_layout(shape, samples, dtype, layout, seed) -> None:
    rng = torch.Generator().manual_seed(seed)
    full = [max(samples, 1) if layout == "expanded" else samples, *shape[1:]]
    x = in_layout(torch.randn(full, generator=rng).to(dtype), layout)
    for name in ISAS:
        if _ext.module is not None:
            _ext.module.set_cpu_isa(name)
        assert_moments(*moments(x), brute_force(x))
        leaf = x.detach().requires_grad_()
        weights = torch.randn(2, x.shape[1], generator=rng).to(torch.float64)
        found, exact = [], []
        for values, grads in ((leaf, found), (x.double().requires_grad_(), exact)):
            mean, m2 = (ops if values is leaf else reference).channel_moments(values)
            grads += torch.autograd.grad((mean * weights[0] + m2 * weights[1]).sum(), values)
        eps = torch.finfo(dtype).eps
        assert found[0].dtype == dtype
        assert found[0].stride() == torch.empty_like(x).stride()
        error = (found[0].double() - exact[0]).abs()
        assert bool((error <= 2 * eps * exact[0].abs() + 1e-5).all()), error.max()


@pytest.mark.parametrize("layout", DENSE)
@pytest.mark.parametrize("sigma", [1.0, 1e-3])
def test_mean_far_from_zero(isa: str, sigma: float, layout: str) -> None:
    for shape in ((64, 9, 30, 30), (300, 9, 4, 4)):
        x = in_layout((torch.randn(shape) + 1e4) * sigma, layout)
        assert_moments(*moments(x), brute_force(x), 6 * sigma)


@pytest.mark.parametrize("layout", DENSE)
def test_outlying_first_elements(isa: str, layout: str) -> None:
    x = torch.randn(40, 6, 20, 20)
    x[0, :, 0, :9] += 1e4
    want = brute_force(x)
    mean, m2 = moments(in_layout(x, layout))
    torch.testing.assert_close(mean.double(), want.mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(m2.double(), want.m2, rtol=1e-5, atol=0)


@pytest.mark.parametrize("layout", DENSE)
def test_denormal_numbers_count(isa: str, layout: str) -> None:
    x = in_layout(torch.randn(20, 5, 9, 9) * 1e-39, layout)
    mean, m2 = moments(x)
    torch.testing.assert_close(mean.double(), brute_force(x).mean, rtol=1e-4, atol=3e-45)
    assert not m2.any()  # squares of them are not representable
    x = in_layout(torch.randn(20, 5, 9, 9, dtype=torch.float64).mul(3e-6).half(), layout)
    assert bool((x.abs() < torch.finfo(torch.float16).smallest_normal).all())
    assert_moments(*moments(x), brute_force(x), 2e-5)


def test_one_element_a_channel_is_exact(isa: str) -> None:
    x = torch.randn(1, 37)
    for y in (x, x[..., None, None], x.T.reshape(1, 37, 1)):
        mean, m2 = moments(y)
        assert torch.equal(mean, x[0])
        assert not m2.any()


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0, 5), (4, 0), (0, 0, 2)])
def test_nothing_in_gives_zeros(shape: tuple[int, ...], impl: Impl) -> None:
    x = torch.zeros(shape, requires_grad=True)
    found = gf.channel_moments(x, impl=impl)
    assert found.count == shape[0] * torch.Size(shape[2:]).numel()
    assert found.mean.shape == found.m2.shape == shape[1:2]
    assert not found.mean.any()
    assert not found.m2.any()
    (found.mean.sum() + found.variance(1).sum()).backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("position", [(0, 0, 0), (19, 3, 8), (29, 16, 16)])
def test_not_finite_stays_in_its_channel(isa: str, bad: float, position: tuple[int, ...]) -> None:
    n, i, j = position
    for dtype in DTYPES:
        for layout in DENSE:
            for size in (17, 7):
                x = torch.randn(30, 4, size, size).to(dtype)
                want = moments(in_layout(x, layout))
                x[n, 2, min(i, size - 1), min(j, size - 1)] = bad
                mean, m2 = moments(in_layout(x, layout))
                assert mean.isfinite().tolist() == [True, True, False, True]
                assert m2.isnan().tolist() == [False, False, True, False]
                assert torch.equal(mean[[0, 1, 3]], want[0][[0, 1, 3]])
                assert torch.equal(m2[[0, 1, 3]], want[1][[0, 1, 3]])


@given(
    shape=st.sampled_from([(64, 24, 30, 31), (300, 50, 7, 7), (9000, 70), (2, 3, 300, 300)]),
    layout=st.sampled_from(DENSE),
    threads=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_threads_do_not_change_a_bit(shape, layout, threads, seed) -> None:
    x = in_layout(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), layout)
    results = []
    for count in threads:
        torch.set_num_threads(count)
        mean, m2 = moments(x)
        grad = torch.ops.gencond.channel_moments_backward(m2, mean, x, mean)
        results.append((mean, m2, grad))
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))


@pytest.mark.skipif(not _ext.available(), reason="the reference makes copies")
def test_dense_memory_is_not_copied() -> None:
    def copies(x: Tensor) -> bool:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            mean, m2 = torch.ops.gencond.channel_moments(x)
            torch.ops.gencond.channel_moments_backward(m2, mean, x, mean)
        return any(event.key in ("aten::clone", "aten::copy_") for event in profile.key_averages())

    for shape in ((4, 6, 9, 9), (5, 6, 3), (4, 6), (3, 5, 4, 4, 4), (4, 1, 9, 9), (1, 6, 9, 9)):
        x = torch.randn(shape)
        assert not any(copies(in_layout(x, layout)) for layout in DENSE), shape
    assert copies(in_layout(torch.randn(4, 6, 9, 9), "transposed"))


def test_variance() -> None:
    x = torch.randn(6, 4, 5)
    found = gf.channel_moments(x)
    for correction in (0, 1):
        torch.testing.assert_close(found.variance(correction), x.var((0, 2), correction=correction))
    assert not found.variance(30).any()
    with pytest.raises(ValueError, match="correction"):
        found.variance(-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.count = 3  # type: ignore[misc]


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (torch.nn.BatchNorm1d, (6, 5)),
        (torch.nn.BatchNorm1d, (6, 5, 9)),
        (torch.nn.BatchNorm2d, (6, 5, 8, 8)),
        (torch.nn.BatchNorm3d, (2, 5, 3, 4, 5)),
    ],
)
def test_running_statistics_are_those_of_batch_norm(norm, shape, impl: Impl) -> None:
    theirs = norm(5, momentum=0.3)
    running = {"running_mean": torch.zeros(5), "running_var": torch.ones(5)}
    for step in range(4):
        x = torch.randn(shape) * (step + 1) + step
        theirs(x)
        gf.channel_moments(x.requires_grad_(), **running, momentum=0.3, impl=impl)
    for name, table in running.items():
        torch.testing.assert_close(table, getattr(theirs, name), rtol=1e-6, atol=1e-6)
        assert not table.requires_grad


def test_one_running_statistic_alone_and_of_another_dtype() -> None:
    x = torch.randn(6, 5, 8).half()
    mean, var = torch.zeros(5, dtype=torch.float64), torch.ones(5)
    gf.channel_moments(x, running_mean=mean, momentum=1)
    torch.testing.assert_close(mean, x.double().mean((0, 2)), rtol=1e-5, atol=1e-6)
    gf.channel_moments(x, running_var=var, momentum=0.5)
    torch.testing.assert_close(var, (1 + x.float().var((0, 2))) / 2)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "expanded"])
def test_gradient_is_right(layout: str) -> None:
    for shape in ((4, 3, 5, 2), (9, 3), (2, 3, 11, 7)):
        x = in_layout(torch.randn(shape, dtype=torch.float64), layout).detach().requires_grad_()
        assert torch.autograd.gradcheck(ops.channel_moments, x)


@pytest.mark.parametrize("layout", DENSE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_in_every_precision(isa: str, dtype: torch.dtype, layout: str) -> None:
    for shape in ((12, 9, 33, 35), (60, 9, 5, 5), (800, 9)):
        x = in_layout((torch.randn(shape) + 2).to(dtype), layout)
        mean, _ = moments(x)
        weights = torch.randn(2, 9, dtype=mean.dtype)
        found = torch.ops.gencond.channel_moments_backward(*weights, x, mean)
        exact = x.double().requires_grad_()
        outputs = reference.channel_moments(exact)
        (want,) = torch.autograd.grad(outputs, exact, list(weights.double()))
        eps = torch.finfo(dtype).eps
        error = (found.double() - want).abs()
        assert bool((error <= 4 * eps * (want.abs() + 4)).all()), error.max() / eps


SAMPLES = {
    "plain": torch.randn(4, 5, 9, 9),
    "channels last": in_layout(torch.randn(4, 5, 9, 9), "channels last"),
    "half, three": in_layout(torch.randn(2, 5, 3, 4, 3), "channels last").half(),
    "strided": in_layout(torch.randn(6, 5, 7), "transposed"),
    "cropped": in_layout(torch.randn(6, 5, 7), "cropped"),
    "two": torch.randn(6, 5),
    "empty": torch.randn(0, 5, 2),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_opcheck(name: str) -> None:
    x = SAMPLES[name]
    torch.library.opcheck(torch.ops.gencond.channel_moments.default, (x,))
    mean, m2 = torch.ops.gencond.channel_moments(x)
    arguments = (mean, m2, x, mean)
    torch.library.opcheck(torch.ops.gencond.channel_moments_backward.default, arguments)


def compiled(loss: Callable[[Tensor], Tensor], backend: str, x: Tensor) -> None:
    """Whole, once for all numbers of samples, and computes the same."""
    counter = CompileCounterWithBackend(backend)
    whole = torch.compile(loss, fullgraph=True, dynamic=True, backend=counter)
    frames = set()
    for n in (3, 5, 8):
        leaf = torch.cat([x] * n).requires_grad_()
        grads = [torch.autograd.grad(f(leaf), leaf)[0] for f in (loss, whole)]
        torch.testing.assert_close(grads[1], grads[0])
        frames.add(counter.frame_count)
    assert len(frames) == 1


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_whole(backend: str) -> None:
    running = torch.zeros(5)

    def loss(x: Tensor) -> Tensor:
        found = gf.channel_moments(x * 2, running_mean=running)
        return found.variance().sum() + found.mean.square().sum()

    compiled(loss, backend, in_layout(torch.randn(2, 5, 4, 3), "channels last"))
    assert running.any()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"x": [1.0]}, TypeError, "x must be a tensor, got list"),
        ({"x": torch.zeros(3, 2, dtype=torch.int32)}, TypeError, "int32"),
        ({"x": torch.zeros(3)}, ValueError, r"\[N, C, ...\], got shape \[3\]"),
        ({"x": torch.zeros(1, 2, 1, 1, 1, 1)}, ValueError, "two to five"),
        ({"running_mean": torch.zeros(3)}, ValueError, r"running_mean must have shape \[2\]"),
        ({"running_var": torch.zeros(2, 1)}, ValueError, r"running_var .* got shape \[2, 1\]"),
        ({"running_var": torch.zeros(2).long()}, TypeError, "running_var .*int64"),
        ({"running_mean": 0.0}, TypeError, "running_mean must be a tensor, got float"),
        ({"running_mean": torch.zeros(2), "momentum": 1.5}, ValueError, r"0 \.\.\. 1, got 1.5"),
        ({"running_mean": torch.zeros(2), "momentum": None}, TypeError, "NoneType"),
        ({"running_mean": torch.zeros(2), "x": torch.zeros(1, 2)}, ValueError, "got 1; pass a"),
        ({"running_var": torch.zeros(2, device="meta")}, ValueError, "on meta but .* on cpu"),
        ({"impl": "quick"}, ValueError, "'quick'"),
    ],
)
def test_wrong_arguments(change: dict, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        gf.channel_moments(**({"x": torch.zeros(3, 2)} | change))


@pytest.mark.skipif(not _ext.available(), reason="needs the C++ extension")
def test_ops_check_what_they_read() -> None:
    x, table = torch.randn(3, 2), torch.zeros(2)
    backward = torch.ops.gencond.channel_moments_backward
    with pytest.raises(ValueError, match=r"grad_m2 must have shape \[2\].* got \[1\]"):
        backward(table, table[:1], x, table)
    with pytest.raises(ValueError, match="two to five dimensions"):
        torch.ops.gencond.channel_moments(table)
    with pytest.raises(TypeError, match="floating point, got Long"):
        torch.ops.gencond.batchnorm_distance(x, table, table.long())


def test_fused_runs_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 2)
    if _ext.available():
        got = gf.channel_moments(x, impl="fused")
        assert torch.equal(got.mean, gf.channel_moments(x).mean)
    monkeypatch.setattr(_ext, "module", None)
    monkeypatch.setattr(_ext, "reason", "the compiler was on holiday.")
    with pytest.raises(InputError, match=r"channel_moments: .* holiday"):
        gf.channel_moments(x, impl="fused")


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_gpu(dtype: torch.dtype, layout: str) -> None:
    for shape in SHAPES:
        x = in_layout(torch.randn(shape).add(1).to(dtype), layout)
        there = in_layout(x.cuda(), layout)
        mean, m2 = moments(there)
        assert_moments(mean.cpu(), m2.cpu(), brute_force(x))
        assert all(map(torch.equal, (mean, m2), moments(there)))
        backward = torch.ops.gencond.channel_moments_backward
        grad = backward(m2, mean, there, mean)
        assert grad.stride() == torch.empty_like(there).stride()
        want = backward(m2.cpu(), mean.cpu(), x, mean.cpu())
        torch.testing.assert_close(grad.cpu(), want)


def test_reference_agrees_with_brute_force() -> None:
    x = torch.randn(20, 13, 6) + 100
    assert_moments(*reference.channel_moments(x), brute_force(x))
