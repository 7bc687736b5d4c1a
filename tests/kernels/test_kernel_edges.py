"""Duplicates, offsets, zero rows, NaN, empty and ignored segments, and input that is refused."""

from __future__ import annotations

import pytest
import torch
from gencond_fast.kernels import config
from gencond_fast.kernels.pair_loss import pair_loss
from gencond_fast.kernels.tiles import tile_tables
from kernel_cases import DEVICE, KINDS, check, expected, layout, parameter, run
from torch import Tensor

kinds = pytest.mark.parametrize("kind", KINDS)
# tiles take the interpreter long; test_kernel_values goes through them in the quick tests
regimes = pytest.mark.parametrize(
    "sizes",
    [pytest.param([12, 20], id="small"), pytest.param([66], id="tiled", marks=pytest.mark.slow)],
)
DISTANCES = ("rbf", "hinge")


# the second class has pairs of rows in different tiles
across_tiles = pytest.mark.parametrize(
    "sizes",
    [pytest.param([12, 20], id="small"), pytest.param([134], id="tiled", marks=pytest.mark.slow)],
)


def with_copies(sizes: list[int], D: int, step: float) -> Tensor:
    """Classes one after the other, the second half of each a step away from the first."""
    first = [torch.randn(n // 2, D) for n in sizes]
    return torch.cat([torch.cat([a, a + step * torch.randn_like(a)]) for a in first])


@kinds
@across_tiles
def test_near_duplicates(kind: str, sizes: list[int]) -> None:
    classes = layout(sizes)
    x = torch.empty(sum(sizes), 20)
    x[classes.order] = with_copies(sizes, 20, 1e-3)
    # by rounded products these distances would be wrong by half; sqrt(20) * 1e-3 is typical
    value = 8e-3 if kind == "hinge" else None
    check(x, classes, kind, 5e-3, precision="tf32", value=value)


@pytest.mark.parametrize("kind", ["infonce", "rbf", "hinge"])
def test_weights_in_half_tiles(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As GPUs with fewer registers for it do: pairs that are near lie in one half or the other."""
    monkeypatch.setattr(config, "weights_columns", lambda arch, tile: tile // 2)
    classes = layout([200])
    x = torch.empty(200, 20)
    rows = torch.randn(200, 20)
    rows[[3, 150]] = rows[[100, 10]] + 1e-3 * torch.randn(2, 20)
    x[classes.order] = rows
    check(x, classes, kind, 5e-3, precision="tf32")


@kinds
@regimes
def test_exact_duplicates(kind: str, sizes: list[int]) -> None:
    classes = layout(sizes)
    x = torch.empty(sum(sizes), 12)
    x[classes.order] = with_copies(sizes, 12, 0.0)
    if kind != "nearest":
        check(x, classes, kind, 2e-4)
        return
    loss, grad = run(x, classes, kind, 1.0)
    assert float(loss) == 1
    assert float(grad.abs().max()) < 1e-8


@kinds
@regimes
def test_a_class_of_one_point(kind: str, sizes: list[int]) -> None:
    x = torch.randn(1, 9).expand(sum(sizes), 9).contiguous()
    loss, grad = run(x, layout(sizes), kind, 0.5)
    wanted = {"infonce": 2.0, "rbf": 1.0, "hinge": 0.25, "nearest": 1.0}[kind]
    assert float(loss) == pytest.approx(wanted, abs=1e-5)
    assert float(grad.abs().max()) < 1e-7


@pytest.mark.parametrize("kind", DISTANCES)
@regimes
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_far_from_the_origin(kind: str, sizes: list[int], precision: str) -> None:
    x = torch.randn(sum(sizes), 16) + 1e3 * torch.randn(16)
    check(x, layout(sizes), kind, 1e-2 if precision == "tf32" else 2e-4, precision=precision)


@pytest.mark.parametrize("kind", ["infonce", "nearest"])
@regimes
def test_narrow_cone(kind: str, sizes: list[int]) -> None:
    # cosines of 0.9999: without a shift the gradient would be a difference of large numbers
    x = torch.randn(sum(sizes), 16) * 1e-2 + torch.randn(16)
    check(x * torch.rand(len(x), 1).add(0.5), layout(sizes), kind, 3e-3)


@pytest.mark.parametrize("kind", ["infonce", "nearest"])
@across_tiles
def test_zero_rows(kind: str, sizes: list[int]) -> None:
    classes = layout(sizes)
    x = torch.randn(sum(sizes), 10)
    x[classes.order[[3, -2]]] = 0
    check(x, classes, kind)
    assert not run(x, classes, kind, 0.2)[1][classes.order[[3, -2]]].any()


@kinds
@pytest.mark.parametrize("sizes", [[1, 5], [5, 1], [66, 1]])
def test_nan_of_any_row_reaches_the_loss(kind: str, sizes: list[int]) -> None:
    classes = layout(sizes)
    for position in (0, sum(sizes) - 1):
        x = torch.randn(sum(sizes), 6)
        x[classes.order[position], 4] = torch.nan
        for precision in ("ieee", "tf32"):
            loss, _ = run(x, classes, kind, 1.0, precision=precision, need_grad=False)
            assert loss.isnan()


@kinds
def test_empty_segments_and_ignored_rows(kind: str) -> None:
    classes = layout([0, 3, 0, 0, 80, 1, 0], ignored=9)
    x = torch.randn(93, 14)
    ignored = classes.order[84:]
    x[ignored[0]] = torch.nan
    value = 0.7 if kind in ("infonce", "nearest") else 4.0
    loss, grad = run(x, classes, kind, value)
    x[ignored] = 0
    wanted, wanted_grad = expected(x, classes.labels, kind, value)
    assert not grad[ignored].any()
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad.double(), wanted_grad, rtol=1e-3, atol=1e-6)


@kinds
@pytest.mark.parametrize(("sizes", "ignored"), [([], 0), ([0, 0], 3), ([1, 1, 0, 1], 0)])
def test_nothing_to_compare(kind: str, sizes: list[int], ignored: int) -> None:
    classes = layout(sizes, ignored)
    x = torch.randn(sum(sizes) + ignored, 5)
    loss, grad = run(x, classes, kind, 1.0)
    assert float(loss) == 0
    assert grad.shape == x.shape
    assert not grad.any()


@kinds
def test_no_columns(kind: str) -> None:
    classes = layout([3, 70])
    x = torch.zeros(73, 0)
    loss, grad = run(x, classes, kind, 1.0)
    assert float(loss) == pytest.approx(float(expected(x, classes.labels, kind, 1.0)[0]))
    assert grad.shape == (73, 0)


@kinds
def test_refused_input(kind: str) -> None:
    classes = layout([3, 4])
    x = torch.randn(7, 5)
    given = [each.to(DEVICE) for each in (x, classes.order, classes.offsets)]
    with pytest.raises(ValueError, match="float64"):
        pair_loss(given[0].double(), *given[1:], None, [], kind, 1.0, "ieee", True)
    with pytest.raises(ValueError, match="fp8"):
        pair_loss(*given, None, [], kind, 1.0, "fp8", True)
    with pytest.raises(ValueError, match="kind must be"):
        pair_loss(*given, None, [], "cosine", 1.0, "ieee", True)
    tables = tile_tables(torch.tensor([0, 3, 5, 7]), 7, DEVICE)
    with pytest.raises(ValueError, match="3 segments"):
        pair_loss(*given, None, tables, kind, parameter(kind, x), "ieee", True)


@pytest.mark.parametrize(("kind", "wanted"), [("rbf", 1.0), ("infonce", 0.0)])
def test_extreme_options(kind: str, wanted: float) -> None:
    classes = layout([66, 9, 1])
    x = torch.randn(76, 4)
    loss, grad = run(x, classes, kind, 1e30)
    assert float(loss) == pytest.approx(wanted, abs=1e-5)
    assert grad.isfinite().all()
    loss, grad = run(x, classes, "rbf", 1e-30)
    assert float(loss) == 0
    assert grad.isfinite().all()
