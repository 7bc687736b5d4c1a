"""batchnorm_matching_loss against the formula in plain PyTorch and float64."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from channel_cases import DTYPES, LAYOUTS, in_layout
from hypothesis import given
from hypothesis import strategies as st
from test_channel_moments import compiled
from torch import Tensor, nn

import gencond_fast as gf
from gencond_fast import _ext
from gencond_fast.errors import InputError
from gencond_fast.functional import ops
from gencond_fast.functional.checks import Impl

IMPLS = ["auto", "reference"]


def plain(
    features: Sequence[Tensor],
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    weights: Sequence[float],
) -> Tensor:
    terms = []
    for x, mean, variance, weight in zip(features, means, variances, weights, strict=True):
        dims = [0, *range(2, x.dim())]
        batch_variance, batch_mean = torch.var_mean(x.double(), dims, correction=0)
        terms.append(
            weight * (batch_mean - mean).norm() + weight * (batch_variance - variance).norm()
        )
    return torch.stack(terms).sum()


def tables(channels: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(channels, generator=rng), torch.rand(channels, generator=rng) + 0.5


def assert_same(features: Sequence[Tensor], impl: Impl, weights: Sequence[float]) -> None:
    means, variances = zip(*(tables(x.shape[1], i) for i, x in enumerate(features)), strict=True)
    leaves = [x.detach().requires_grad_() for x in features]
    exact = [x.double().requires_grad_() for x in features]
    loss = gf.batchnorm_matching_loss(leaves, means, variances, weights=weights, impl=impl)
    want = plain(exact, means, variances, weights)
    assert loss.shape == ()
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=1e-5)
    grads = torch.autograd.grad(loss * 0.7, leaves)
    wanted = torch.autograd.grad(want * 0.7, exact)
    for x, got, expected in zip(features, grads, wanted, strict=True):
        assert got.dtype == x.dtype
        assert impl == "reference" or got.stride() == torch.empty_like(x).stride()
        eps = torch.finfo(x.dtype).eps
        error = (got.double() - expected).abs()
        assert bool((error <= 1e-5 * expected.abs().max() + eps * expected.abs()).all())


@pytest.mark.parametrize("impl", IMPLS)
@given(
    shapes=st.lists(st.lists(st.integers(1, 7), min_size=2, max_size=5), min_size=1, max_size=3),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 2**31),
)
def test_matches_the_formula(impl: Impl, shapes, dtype, layout, seed) -> None:
    rng = torch.Generator().manual_seed(seed)
    features = [
        in_layout((torch.randn(shape, generator=rng) * 2 + 1).to(dtype), layout) for shape in shapes
    ]
    assert_same(features, impl, [0.5 * i + 1 for i in range(len(shapes))])


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_larger_layers(isa: str, layout: str) -> None:
    shapes = [(8, 64, 33, 32), (32, 40, 7, 7), (500, 24)]
    assert_same([in_layout(torch.randn(s) + 3, layout) for s in shapes], "auto", [10.0, 1, 0.1])


def test_layers_of_several_dtypes() -> None:
    features = [torch.randn(4, 3, 5, 5).to(dtype) for dtype in DTYPES]
    for impl in IMPLS:
        assert_same(features, impl, [1.0, 2, 3, 4])


@pytest.mark.parametrize("impl", IMPLS)
def test_gradient_is_right(impl: Impl) -> None:
    features = [
        torch.randn(s, dtype=torch.float64, requires_grad=True) for s in [(5, 3, 4), (7, 2)]
    ]
    means, variances = zip(tables(3, 0), tables(2, 1), strict=True)

    def loss(*x: Tensor) -> Tensor:
        return gf.batchnorm_matching_loss(x, means, variances, weights=[10, 0.3], impl=impl)

    assert torch.autograd.gradcheck(loss, features)


@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_to_mend(impl: Impl) -> None:
    # statistics that are exact in float32, met exactly: the norms are 0, and so are their gradients
    x = torch.tensor([[-1.0, 2.0], [1.0, 6.0]], requires_grad=True)
    mean, variance = torch.tensor([0.0, 4.0]), torch.tensor([1.0, 4.0])
    loss = gf.batchnorm_matching_loss([x], [mean], [variance], impl=impl)
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()
    # one norm at 0 leaves the other's gradient as it is
    x.grad = None
    gf.batchnorm_matching_loss([x], [mean], [variance + 1], impl=impl).backward()
    assert bool((x.grad.abs() > 0).all())


@pytest.mark.parametrize("impl", IMPLS)
def test_a_layer_without_elements_counts_nothing(impl: Impl) -> None:
    empty, full = torch.zeros(0, 3, 4, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    means, variances = zip(tables(3, 0), tables(2, 1), strict=True)
    both = gf.batchnorm_matching_loss([empty, full], means, variances, impl=impl)
    alone = gf.batchnorm_matching_loss([full], means[1:], variances[1:], impl=impl)
    assert both.item() == alone.item()
    both.backward()
    assert full.grad is not None


@pytest.mark.parametrize("impl", IMPLS)
def test_statistics_are_constants_of_any_dtype(impl: Impl) -> None:
    x = torch.randn(6, 3, 4, requires_grad=True)
    mean, variance = (table.requires_grad_() for table in tables(3, 0))
    loss = gf.batchnorm_matching_loss([x], [mean], [variance.double()], impl=impl)
    loss.backward()
    assert loss.dtype == torch.float32
    assert mean.grad is None
    assert variance.grad is None


@pytest.mark.parametrize("impl", IMPLS)
def test_not_a_number_is_seen(impl: Impl) -> None:
    for layer in range(2):
        features = [torch.randn(4, 3), torch.randn(4, 3)]
        features[layer][1, 1] = torch.nan
        means, variances = zip(tables(3, 0), tables(3, 1), strict=True)
        assert gf.batchnorm_matching_loss(features, means, variances, impl=impl).isnan()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_images_of_a_network_descend(memory: torch.memory_format) -> None:
    """As it is used: what enters the batch norms of a trained network, caught by pre-hooks."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6)
    ).to(memory_format=memory)
    for _ in range(30):
        network(torch.randn(32, 3, 12, 12) * 2 + 1)
    network.eval().requires_grad_(False)
    norms = [layer for layer in network if isinstance(layer, nn.BatchNorm2d)]
    means, variances = ([getattr(n, s) for n in norms] for s in ("running_mean", "running_var"))
    caught: list[Tensor] = []
    for norm in norms:
        norm.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))

    images = torch.randn(16, 3, 12, 12).to(memory_format=memory).requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.1)
    losses = []
    for _ in range(60):
        caught.clear()
        network(images)
        loss = gf.batchnorm_matching_loss(caught, means, variances, weights=[10, 1])
        (grad,) = torch.autograd.grad(loss, images, retain_graph=True)
        (want,) = torch.autograd.grad(plain(caught, means, variances, [10, 1]), images)
        torch.testing.assert_close(grad, want, rtol=1e-3, atol=1e-4 * want.abs().max().item())
        images.grad = grad
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("shape", [(4, 5, 9, 9), (6, 5), (0, 5, 2)])
def test_opcheck(shape: tuple[int, ...]) -> None:
    op = torch.ops.gencond.batchnorm_distance.default
    torch.library.opcheck(op, (torch.randn(shape), *tables(5, 0)))
    torch.library.opcheck(op, (torch.randn(shape).half(), *tables(5, 0)))


def test_threads_do_not_change_a_bit() -> None:
    x, found = torch.randn(64, 24, 30, 31), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(torch.ops.gencond.batchnorm_distance(x, *tables(24, 0)))
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_whole(backend: str) -> None:
    mean, variance = tables(5, 0)

    def loss(x: Tensor) -> Tensor:
        layers = [x * 2, x.square()]
        return gf.batchnorm_matching_loss(layers, [mean] * 2, [variance] * 2, weights=[10.0, 1.0])

    compiled(loss, backend, torch.randn(2, 5, 4, 3))


def test_no_gradient_is_prepared_in_vain() -> None:
    x = torch.randn(6, 3, requires_grad=True)
    with torch.no_grad():
        assert not ops.batchnorm_distance(x, *tables(3, 0)).requires_grad


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"features": []}, ValueError, "got none"),
        ({"means": []}, ValueError, "means must have one entry for each of the 1"),
        ({"weights": [1.0, 2.0]}, ValueError, "weights .* got 2"),
        ({"weights": [torch.nan]}, ValueError, r"weights\[0\] must be finite"),
        ({"weights": ["1"]}, TypeError, r"weights\[0\] must be a number, got str"),
        ({"features": [[1.0]]}, TypeError, r"features\[0\] must be a tensor, got list"),
        ({"features": [torch.zeros(3)]}, ValueError, r"features\[0\] must have two to five"),
        ({"means": [torch.zeros(3)]}, ValueError, r"means\[0\] must have shape \[2\]"),
        ({"variances": [torch.zeros(2).int()]}, TypeError, r"variances\[0\] must be floating"),
        ({"impl": "quick"}, ValueError, "'quick'"),
    ],
)
def test_wrong_arguments(change: dict, error: type[Exception], said: str) -> None:
    layer = {
        "features": [torch.zeros(3, 2)],
        "means": [torch.zeros(2)],
        "variances": [torch.ones(2)],
    }
    with pytest.raises(error, match=said):
        gf.batchnorm_matching_loss(**(layer | change))


def test_fused_runs_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ([torch.randn(5, 2)], *([table] for table in tables(2, 0)))
    if _ext.available():
        got = gf.batchnorm_matching_loss(*layer, impl="fused")
        assert torch.equal(got, gf.batchnorm_matching_loss(*layer))
    monkeypatch.setattr(_ext, "module", None)
    monkeypatch.setattr(_ext, "reason", "the compiler was on holiday.")
    with pytest.raises(InputError, match=r"batchnorm_matching_loss: .* holiday"):
        gf.batchnorm_matching_loss(*layer, impl="fused")
