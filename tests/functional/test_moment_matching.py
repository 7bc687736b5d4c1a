"""moment_matching_loss against the formula read aloud, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from moment_cases import DTYPES, ISAS, brute_force, set_isa, with_layout
from torch import Tensor

import gencond_fast as gf
from gencond_fast import _ext
from gencond_fast.errors import InputError
from gencond_fast.functional import ops
from gencond_fast.functional.ops.matching import _matching_reference

IMPLS = ["auto", "reference"]


def read_aloud(
    x: Tensor,
    labels: Tensor,
    target: gf.ClassMoments,
    mean_weight: float = 1.0,
    std_weight: float = 1.0,
    stored: int | None = None,
) -> Tensor:
    """One class at a time, in float64, by PyTorch's own mean, variance and deviation."""
    total = x.new_zeros((), dtype=torch.float64)
    for c, n_target in enumerate(target.count.tolist()):
        rows = x.double()[labels == c]
        n = len(rows)
        if n == 0 or n_target == 0:
            continue
        part = (rows.mean(0) - target.mean[c].double()).square().sum()
        if stored is not None and n > 1:
            part = part - (1 - n / stored) * rows.var(0, correction=1).sum() / n
        total = total + mean_weight * part
        if n > 1 and n_target > 1:
            wanted = (target.m2[c].double() / (n_target - 1)).sqrt()
            total = total + std_weight * (rows.std(0, correction=1) - wanted).square().sum()
    return total


def targets(classes: int, width: int, seed: int = 3) -> gf.ClassMoments:
    """With a class that is empty and one of a single sample, where there are so many."""
    rng = torch.Generator().manual_seed(seed)
    count = torch.randint(2, 9, (classes,), generator=rng)
    count[1:2], count[3:4] = 0, 1
    labels = torch.arange(classes).repeat_interleave(count)
    return gf.class_moments(torch.randn(len(labels), width, generator=rng) * 2, labels, classes)


@given(
    n=st.integers(0, 200),
    d=st.integers(1, 70),
    c=st.integers(1, 9),
    weights=st.tuples(*[st.sampled_from([1.0, 0.0, -0.5, 3.0])] * 2),
    more=st.none() | st.integers(0, 20),
    dtype=st.sampled_from(DTYPES),
    wide=st.booleans(),
    layout=st.sampled_from(["dense", "transposed", "rows", "columns"]),
    isa=st.sampled_from(ISAS),
    seed=st.integers(0, 2**31),
)
def test_loss_and_gradient(n, d, c, weights, more, dtype, wide, layout, isa, seed) -> None:
    set_isa(isa)
    rng = torch.Generator().manual_seed(seed)
    x = with_layout(torch.randn(2 * n, 2 * d, generator=rng).to(dtype), layout)
    labels = (torch.rand(n, generator=rng) ** 2 * c).long()
    target = targets(c, d, seed)
    if wide:
        target = gf.ClassMoments(target.count, target.mean.double(), target.m2.double())
    stored = None if more is None else max(int(labels.bincount().max()) if n else 0, 1) + more
    options = dict(zip(("mean_weight", "std_weight"), weights, strict=True), stored=stored)

    exact = x.double().requires_grad_()
    want = read_aloud(exact, labels, target, **options)
    (slope,) = (
        torch.autograd.grad(want, exact) if want.requires_grad else (torch.zeros_like(exact),)
    )
    steepest = float(slope.abs().max()) if n else 0.0
    size = sum(abs(w) for w in weights) * read_aloud(exact, labels, target).item() + d * c
    for impl in IMPLS:
        leaf = x.clone().requires_grad_()
        got = gf.moment_matching_loss(leaf, labels, target, **options, impl=impl)
        assert got.shape == ()
        assert got.dtype == torch.promote_types(dtype, torch.float32)
        eps = torch.finfo(got.dtype).eps
        assert abs(got.item() - want.item()) <= 8 * eps * size + 1e-12
        (grad,) = torch.autograd.grad(got * 2.5, leaf)
        assert grad.dtype == dtype
        error = (grad.double() - 2.5 * slope).abs()
        rounding = torch.finfo(dtype).eps * slope.abs() * 2.5
        assert bool((error <= rounding + 400 * eps * (1 + steepest)).all()), error.max()


def test_gradcheck(isa: str) -> None:
    x = torch.randn(23, 11, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(23) % 5
    target = gf.class_moments(torch.randn(40, 11).double(), torch.arange(40) % 5, 6)

    def loss(x: Tensor) -> Tensor:
        return gf.moment_matching_loss(x, labels, target, std_weight=0.7, stored=8)

    assert torch.autograd.gradcheck(loss, x)


def test_plain_pytorch_is_the_op(isa: str) -> None:
    """Where the extension does not serve, the op is this function."""
    x, labels = torch.randn(90, 33), (torch.rand(90) ** 2 * 7).long()
    arguments = (x, labels, *targets(8, 33).tables, 0.7, 1.3, 60)
    op = torch.ops.gencond.moment_matching(*arguments)
    for got, want in zip(_matching_reference(*arguments), op, strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_same_samples_have_no_distance(impl: str) -> None:
    x, labels = torch.randn(60, 9) + 1e3, torch.arange(60) % 4
    leaf = x.clone().requires_grad_()
    loss = gf.moment_matching_loss(leaf, labels, gf.class_moments(x, labels, 4), impl=impl)
    loss.backward()
    assert loss.item() < 1e-6
    assert float(leaf.grad.abs().max()) < 1e-3


@pytest.mark.parametrize("impl", IMPLS)
def test_equal_samples_have_a_deviation_of_no_gradient(isa: str, impl: str) -> None:
    x = torch.ones(6, 20, requires_grad=True)
    labels = torch.arange(6) % 2
    target = gf.class_moments(torch.randn(30, 20) + 1, torch.arange(30) % 2, 2)
    loss = gf.moment_matching_loss(x, labels, target, mean_weight=0.0, impl=impl)
    loss.backward()
    torch.testing.assert_close(loss, target.variance(1).sum())
    assert not x.grad.any()


@pytest.mark.parametrize("impl", IMPLS)
def test_a_mean_far_from_zero(isa: str, impl: str) -> None:
    x, labels = torch.randn(400, 40) + 1e4, torch.arange(400) % 5
    target = gf.class_moments(torch.randn(300, 40) + 1e4, torch.arange(300) % 5, 5)
    got = gf.moment_matching_loss(x, labels, target, stored=100, impl=impl)
    exact = brute_force(x, labels, 5)
    slip = float((gf.class_moments(x, labels, 5).mean - exact.mean).abs().max())
    # what float32 costs the means themselves
    want = read_aloud(x, labels, target, stored=100)
    assert abs(float(got - want)) <= 4 * 200 * slip * float((exact.mean - target.mean).abs().max())


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_not_finite_is_seen_where_it_is_compared(isa, impl, bad, weights) -> None:
    labels = torch.arange(60) % 3
    target = targets(3, 21)  # of which class 1 is empty
    options = dict(zip(("mean_weight", "std_weight"), weights, strict=True))
    for c in (0, 1):
        x = torch.randn(60, 21)
        x[c, 20] = bad
        x.requires_grad_()
        loss = gf.moment_matching_loss(x, labels, target, **options, impl=impl)
        loss.backward()
        assert bool(loss.isfinite()) == (c == 1)
        if impl == "auto":
            assert bool(x.grad[1::3].isfinite().all() | (c == 1))
            assert bool(x.grad[2::3].isfinite().all())


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e17])
def test_very_small_and_very_large_numbers(isa: str, scale: float) -> None:
    x, labels = torch.randn(60, 19) * scale, torch.arange(60) % 3
    target = gf.class_moments(torch.randn(60, 19) * scale, labels, 3)
    leaf = x.clone().requires_grad_()
    loss = gf.moment_matching_loss(leaf, labels, target)
    loss.backward()
    want = float(read_aloud(x, labels, target))
    assert loss.item() == pytest.approx(want, rel=1e-4, abs=1e-37)
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0)])
def test_nothing_in_gives_zero(shape: tuple[int, int], impl: str) -> None:
    x = torch.zeros(shape, requires_grad=True)
    labels = torch.zeros(shape[0], dtype=torch.int64)
    loss = gf.moment_matching_loss(x, labels, gf.ClassMoments.zeros(3, shape[1]), impl=impl)
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad.shape == x.shape


def test_threads_do_not_change_a_bit(isa: str) -> None:
    x, labels, target = (
        torch.randn(3000, 700),
        (torch.rand(3000) ** 3 * 90).long(),
        targets(90, 700),
    )
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        leaf = x.clone().requires_grad_()
        loss = gf.moment_matching_loss(leaf, labels, target, stored=3000)
        results.append((loss, *torch.autograd.grad(loss, leaf)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_is_the_discrepancy_of_that_name() -> None:
    from gencond_fast.discrepancy import Generated, Real, build_discrepancy

    x, labels, target = torch.randn(50, 12), torch.arange(50) % 5, targets(5, 12)
    generated = Generated(x, labels, gf.class_moments(x, labels, 5), 20)
    for name, std_weight in (("mean", 0.0), ("moments", 1.0)):
        discrepancy = build_discrepancy(name)
        discrepancy.prepare(Real(target))
        loss = gf.moment_matching_loss(x, labels, target, std_weight=std_weight, stored=20)
        torch.testing.assert_close(discrepancy.loss(generated), loss)


def test_memory_does_not_grow_with_pairs_of_samples_and_columns() -> None:
    """A graph of PyTorch ops would keep several tensors as large as the features."""
    x = torch.randn(500, 64, requires_grad=True)
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        gf.moment_matching_loss(x, torch.arange(500) % 3, targets(3, 64))
    assert sum(size >= x.numel() for size in saved) == 1  # the features themselves


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("stored", [None, 40])
def test_opcheck(dtype: torch.dtype, stored: int | None) -> None:
    x, labels = torch.randn(40, 18).to(dtype)[:, ::2], torch.randint(4, (40,))
    arguments = (x, labels, *targets(4, 9).tables, 1.0, 0.5, stored)
    torch.library.opcheck(torch.ops.gencond.moment_matching.default, arguments)


def test_compiles_whole() -> None:
    labels, target = torch.randint(4, (64,)), targets(4, 5)

    def loss(x: Tensor) -> Tensor:
        return gf.moment_matching_loss(x * 2, labels, target, stored=64) + x.sum()

    x = torch.randn(64, 5, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(f(x), x)[0] for f in (loss, compiled)]
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("impl", IMPLS)
def test_more_samples_than_stored(impl: str) -> None:
    labels = torch.tensor([0, 1, 1, 1])
    with pytest.raises(ValueError, match="class 1 has 3 samples, more than stored = 2"):
        gf.moment_matching_loss(torch.randn(4, 2), labels, targets(2, 2), stored=2, impl=impl)


@pytest.mark.parametrize("impl", IMPLS)
def test_label_out_of_range(impl: str) -> None:
    labels = torch.tensor([0, 7, 1])
    with pytest.raises(IndexError, match=r"label 7 .* 0 \.\.\. 1 "):
        gf.moment_matching_loss(torch.randn(3, 2), labels, targets(2, 2), impl=impl)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"target": torch.zeros(2, 2)}, TypeError, "target must be ClassMoments, got Tensor"),
        ({"target": gf.ClassMoments.zeros(2, 3)}, ValueError, "2 columns, but target 3"),
        ({"labels": torch.zeros(3)}, TypeError, "moment_matching_loss: labels must be integers"),
        ({"mean_weight": math.nan}, ValueError, "mean_weight must be a finite number, got nan"),
        ({"std_weight": math.inf}, ValueError, "std_weight must be a finite number, got inf"),
        ({"stored": 0}, ValueError, "stored must be 1 or more, got 0"),
        ({"stored": 2.0}, TypeError, "stored must be an int, got float"),
        ({"impl": "quick"}, ValueError, "'quick'"),
    ],
)
def test_wrong_arguments(change: dict, error: type[Exception], said: str) -> None:
    arguments = {
        "features": torch.zeros(3, 2),
        "labels": torch.zeros(3, dtype=torch.int64),
        "target": gf.ClassMoments.zeros(1, 2),
    }
    with pytest.raises(error, match=said):
        gf.moment_matching_loss(**(arguments | change))


def test_target_with_a_gradient() -> None:
    x, labels = torch.randn(4, 2, requires_grad=True), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="target requires grad"):
        gf.moment_matching_loss(x, labels, gf.class_moments(x, labels, 1))


def test_fused_runs_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, target = torch.randn(5, 2), torch.zeros(5, dtype=torch.int64), targets(1, 2)
    if _ext.available():
        got = gf.moment_matching_loss(x, labels, target, impl="fused")
        assert torch.equal(got, ops.moment_matching(x, labels, target.tables, 1.0, 1.0, None))
    monkeypatch.setattr(_ext, "module", None)
    monkeypatch.setattr(_ext, "reason", "the compiler was on holiday.")
    with pytest.raises(InputError, match="moment_matching_loss: .* holiday"):
        gf.moment_matching_loss(x, labels, target, impl="fused")
