"""The C++ ops of the losses against the reference in float64, on every instruction set."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gencond_fast import _ext
from gencond_fast.functional import reference

if _ext.module is None:
    pytest.skip("these are the ops of the C++ extension", allow_module_level=True)

OPS = torch.ops.gencond
ISAS = _ext.build_info()["cpu_isas"].split(",")
KINDS = list(reference.INTRA_KINDS)
OPTION = {"infonce": "temperature", "rbf": "sigma", "hinge": "margin"}


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _ext.module.cpu_isa()
    _ext.module.set_cpu_isa(request.param)
    yield request.param
    _ext.module.set_cpu_isa(before)


def parameter_of(kind: str, spread: float) -> float:
    """One at which pairs that lie `spread` apart matter, some more and some less."""
    return {"infonce": 0.1, "rbf": spread, "hinge": 1.1 * spread, "nearest": 1.0}[kind]


def fused(x: Tensor, labels: Tensor, kind: str, parameter: float, need_grad: bool = True):
    order, offsets = OPS.class_order(labels)
    return OPS.pair_loss(x, order, offsets, None, [], kind, parameter, "ieee", need_grad)


def plain(x: Tensor, labels: Tensor, kind: str, parameter: float, dtype: torch.dtype):
    leaf = x.to(dtype).detach().requires_grad_()
    options = {OPTION[kind]: parameter} if kind in OPTION else {}
    loss = reference.intra_class_loss(leaf, labels, kind=kind, **options)
    return loss.detach().double(), torch.autograd.grad(loss, leaf)[0].double()


def assert_as_exact(x: Tensor, labels: Tensor, kind: str, parameter: float) -> None:
    """No more than twice the error of the reference in float32, and some roundings."""
    loss, grad = fused(x, labels, kind, parameter)
    true_loss, true_grad = plain(x, labels, kind, parameter, torch.float64)
    near_loss, near_grad = plain(x, labels, kind, parameter, torch.float32)
    unit = 1 / parameter if kind == "infonce" else parameter**2 if kind == "hinge" else 1.0
    error, allowed = abs(loss.double() - true_loss), abs(near_loss - true_loss)
    assert error <= 2 * allowed + 1e-6 * abs(true_loss) + 1e-6 * unit
    error, allowed = (grad.double() - true_grad).norm(), (near_grad - true_grad).norm()
    assert error <= 2 * allowed + 5e-6 * true_grad.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("n", "d", "c"), [(7, 3, 2), (60, 33, 4), (150, 130, 9), (300, 600, 2)])
def test_matches_reference(isa: str, kind: str, dtype: torch.dtype, n: int, d: int, c: int) -> None:
    x = torch.randn(n, d).to(dtype)
    labels = (torch.rand(n) ** 2 * c).long()
    assert_as_exact(x, labels, kind, parameter_of(kind, math.sqrt(d)))


@given(
    n=st.integers(1, 150),
    d=st.integers(0, 70),
    c=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    layout=st.sampled_from(["transposed", "rows", "columns"]),
    isa=st.sampled_from(ISAS),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_layout(n, d, c, kind, dtype, layout, isa, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * n, 2 * d, generator=generator).to(dtype)
    if layout == "transposed":
        x = x.T.contiguous().T
    x = x[::2, :d] if layout == "rows" else x[:n, ::2]
    u = torch.rand(2 * n, generator=generator)[::2]
    labels = (u**3 * c).long() * 10**15 - 7
    _ext.module.set_cpu_isa(isa)
    assert_as_exact(x, labels, kind, parameter_of(kind, math.sqrt(max(d, 1))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_of_several_blocks(kind: str) -> None:
    x = torch.randn(2300, 20)
    x[2200], x[2201] = x[10] + 1e-2, x[11] + 1e-4
    labels = (torch.rand(2300) < 0.03).long()
    assert_as_exact(x, labels, kind, parameter_of(kind, math.sqrt(20)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-5])
def test_near_duplicates(isa: str, kind: str, scale: float) -> None:
    x = torch.randn(120, 24)
    x[60:] = x[:60] + scale * torch.randn(60, 24)
    labels = torch.arange(120) % 3
    assert_as_exact(x, labels, kind, parameter_of(kind, math.sqrt(24)))
    clusters = torch.randn(2, 24)[torch.arange(120) % 2] + scale * torch.randn(120, 24)
    for rows in (x, clusters):
        parameter = parameter_of(kind, 3 * scale * math.sqrt(24))
        _, grad = fused(rows, labels, kind, parameter)
        _, true = plain(rows, labels, kind, parameter, torch.float64)
        error = (grad.double() - true).norm(dim=1) / true.norm(dim=1).clamp(min=1e-300)
        # of two rows at 1e-5, unit vectors in float32 keep no more than two digits
        assert kind in ("infonce", "nearest") or error.max() < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_far_from_the_origin(isa: str, kind: str) -> None:
    x = torch.randn(100, 30) + 1e3
    assert_as_exact(x, torch.arange(100) % 3, kind, parameter_of(kind, math.sqrt(30)))


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures(isa: str, temperature: float) -> None:
    assert_as_exact(torch.randn(90, 12), torch.arange(90) % 4, "infonce", temperature)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_duplicates_and_zero_rows(isa: str, kind: str) -> None:
    x = torch.randn(40, 9)
    x[3] = x[7]
    x[[11, 15]] = 0
    labels = torch.arange(40) % 4
    loss, grad = fused(x, labels, kind, 1.0)
    true_loss, true_grad = plain(x, labels, kind, 1.0, torch.float64)
    torch.testing.assert_close(loss.double(), true_loss, rtol=1e-5, atol=1e-6)
    if kind == "nearest":  # the reference shares among partners that are nearest alike
        true_grad[3::4] = grad[3::4].double()
    if kind in ("infonce", "nearest"):
        assert bool((grad[[11, 15]] == 0).all())
    torch.testing.assert_close(grad.double(), true_grad, rtol=1e-4, atol=1e-6)
    same = torch.randn(1, 9).expand(40, 9)
    assert fused(same, labels, kind, 1.0)[1].abs().max() < 1e-5


def test_nearest_follows_the_first_of_equals(isa: str) -> None:
    x = torch.tensor([[0.0, 1.0], [0.6, 0.8], [0.6, 0.8]])
    _, grad = fused(x, torch.zeros(3, dtype=torch.int64), "nearest", 1.0)
    assert grad[2].abs().max() < 1e-6 < grad[1].abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_anywhere_is_seen(isa: str, kind: str) -> None:
    labels = torch.tensor([0] * 20 + [1] * 5 + [2])
    for row in (0, 22, 25):
        x = torch.randn(26, 19)
        x[row, 18] = torch.nan
        loss, grad = fused(x, labels, kind, 1.0)
        assert loss.isnan()
        assert bool((grad.isnan().any(1) == ((labels == labels[row]) & (labels < 2))).all())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_no_class_and_empty_classes(isa: str, kind: str) -> None:
    x = torch.randn(30, 8)
    x[29] = torch.nan
    order, offsets = torch.arange(30), torch.tensor([0, 0, 12, 12, 13, 28, 28])
    loss, grad = OPS.pair_loss(x, order, offsets, None, [], kind, 1.0, "ieee", True)
    labels = torch.tensor([0] * 12 + [1] + [2] * 15)
    want_loss, want_grad = fused(x[:28], labels, kind, 1.0)
    assert torch.equal(loss, want_loss)
    assert torch.equal(grad[:28], want_grad)
    assert bool((grad[28:] == 0).all())


@pytest.mark.parametrize("n", [0, 1, 5])
def test_nothing_to_compare(n: int) -> None:
    for kind in KINDS:
        loss, grad = fused(torch.randn(n, 4), torch.arange(n), kind, 1.0)
        assert loss == 0
        assert torch.equal(grad, torch.zeros(n, 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 7, 200])
def test_same_bits_for_any_number_of_threads(kind: str, classes: int) -> None:
    x = torch.randn(700, 70)
    labels = (torch.rand(700) ** 2 * classes).long()
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        results.append(fused(x, labels, kind, parameter_of(kind, 8.0)))
    for loss, grad in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(grad, results[0][1])
    loss, grad = fused(x, labels, kind, parameter_of(kind, 8.0), need_grad=False)
    assert torch.equal(loss, results[0][0])
    assert grad.shape == (0,)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=60))
def test_order_is_a_stable_sort(labels: list[int]) -> None:
    order, offsets = OPS.class_order(torch.tensor(labels, dtype=torch.int64))
    assert order.tolist() == sorted(range(len(labels)), key=lambda i: labels[i])
    ordered = [labels[i] for i in order.tolist()]
    starts = [i for i in range(len(labels)) if i == 0 or ordered[i] != ordered[i - 1]]
    assert offsets.tolist() == starts + [len(labels)] * (len(labels) + 1 - len(starts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_centres_and_their_gradient(isa: str, dtype: torch.dtype) -> None:
    x = (torch.randn(900, 1100) + 50).to(dtype)[:, ::2]
    order = torch.randperm(900)
    offsets = torch.tensor([0, 1, 1, 600, 600, 890])  # and ten rows of none
    centres = OPS.class_centres(x, order, offsets, [])
    rows = [order[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    want = torch.stack([x[r].double().mean(0) if len(r) else torch.zeros(550) for r in rows])
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    assert centres.dtype == exact
    torch.testing.assert_close(centres.double(), want.double(), rtol=2e-7, atol=1e-7)
    grad = torch.randn(5, 550, dtype=exact)
    want = torch.zeros(900, 550, dtype=torch.float64)
    for c, r in enumerate(rows):
        want[r] = grad[c].double() / max(1, len(r))
    got = OPS.class_centres_backward(grad, order, offsets, dtype)
    torch.testing.assert_close(got, want.to(exact).to(dtype))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"order": torch.tensor([0, 1, 3])}, IndexError),
        ({"order": torch.tensor([0, 1])}, ValueError),
        ({"offsets": torch.tensor([0, 2, 1])}, ValueError),
        ({"offsets": torch.tensor([0, 4])}, ValueError),
        ({"offsets": torch.tensor([0.0, 3.0])}, TypeError),
        ({"features": torch.randn(3)}, ValueError),
        ({"features": torch.randn(3, 2).double()}, TypeError),
        ({"kind": "cosine"}, ValueError),
    ],
)
def test_what_would_be_unsafe_is_refused(change: dict, error: type[Exception]) -> None:
    given = {"features": torch.randn(3, 2), "order": torch.arange(3)}
    given |= {"offsets": torch.tensor([0, 3]), "kind": "rbf"} | change
    with pytest.raises(error, match="pair_loss"):
        OPS.pair_loss(
            **given, centres=None, tables=[], parameter=1.0, precision="ieee", need_grad=True
        )
