"""Values and gradients of the kernels against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from gencond_fast.kernels.centres import class_centres
from kernel_cases import DEVICE, KINDS, check, expected, layout, parameter, run, unset_memory

kinds = pytest.mark.parametrize("kind", KINDS)
SIZES = {
    "tiny": ([1, 2, 3, 1, 10, 5, 2, 21], 40),
    "around a pack": ([63, 64, 65], 17),
    "around a tile": ([128, 129, 9], 33),
    "tiled and small": ([130, 1, 20, 70], 100),
}


@kinds
@pytest.mark.parametrize("name", SIZES)
def test_ragged_classes(kind: str, name: str) -> None:
    sizes, D = SIZES[name]
    check(torch.randn(sum(sizes), D), layout(sizes), kind)


@kinds
def test_one_column(kind: str) -> None:
    classes = layout([7, 66])
    x = torch.randn(73, 1)
    if kind in ("rbf", "hinge"):
        check(x, classes, kind)
        return
    # the cosines are -1 and 1, and nothing can be done about them
    loss, grad = run(x, classes, kind, 0.2)
    wanted, _ = expected(x, classes.labels, kind, 0.2)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=0)
    assert float((grad * x).abs().max()) < 1e-6


@kinds
def test_blocks_of_a_class_larger_than_the_workspace(kind: str) -> None:
    check(torch.randn(273, 20), layout([200, 70, 3]), kind, cap=2)


def test_blocks_of_two_tiles() -> None:
    check(torch.randn(390, 8), layout([390]), "rbf", cap=8)
    check(torch.randn(300, 8), layout([300]), "infonce", cap=8)


@kinds
def test_loss_without_gradient_is_the_same(kind: str) -> None:
    classes = layout([70, 40, 2])
    x = torch.randn(112, 12)
    loss, grad = run(x, classes, kind, parameter(kind, x), need_grad=False)
    assert grad.shape == (0,)
    assert torch.equal(loss, run(x, classes, kind, parameter(kind, x))[0])


@kinds
@pytest.mark.parametrize("sizes", [[30, 20], [80]])
def test_given_centres_only_help(kind: str, sizes: list[int]) -> None:
    x = torch.randn(sum(sizes), 24) + 3
    check(x, layout(sizes), kind, centres=torch.randn(len(sizes), 24))


@kinds
def test_any_strides_and_half_precision(kind: str) -> None:
    classes = layout([70, 30])
    for x in (torch.randn(30, 100).T, torch.randn(200, 60)[::2, ::2]):
        check(x, classes, kind)
    check(torch.randn(100, 33).half(), classes, kind)


@kinds
def test_tf32_operands_are_rounded_to_nearest(kind: str) -> None:
    classes = layout([80, 50])
    x = torch.randn(130, 64)
    if kind != "nearest":
        check(x, classes, kind, 1e-2, precision="tf32")
        return
    # rounded products may choose another row, of nearly the same cosine
    loss, _ = run(x, classes, kind, 1.0, precision="tf32")
    wanted, _ = expected(x, classes.labels, kind, 1.0)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-3, atol=0)


@kinds
@pytest.mark.parametrize("sizes", [[20, 40], [80]])
def test_tf32x3_is_as_good_as_float32(kind: str, sizes: list[int]) -> None:
    check(torch.randn(sum(sizes), 31), layout(sizes), kind, precision="tf32x3")


def test_class_centres() -> None:
    sizes = [1, 0, 300, 600, 64, 0]
    classes = layout(sizes, ignored=5)
    far = torch.randn(140, 970).T[:, ::2] + 100
    for x in (torch.randn(970, 70), far, torch.randn(970, 3).half()):
        with unset_memory():
            given = (each.to(DEVICE) for each in (x, classes.order, classes.offsets))
            got = class_centres(*given, []).cpu()
        wanted = torch.stack(
            [x.double()[classes.labels == c].sum(0) / max(n, 1) for c, n in enumerate(sizes)]
        )
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), wanted, rtol=1e-6, atol=1e-6)


def test_tables_are_made_when_none_are_given() -> None:
    from gencond_fast.kernels.pair_loss import pair_loss

    classes = layout([40, 90])
    x = torch.randn(130, 10)
    given = (each.to(DEVICE) for each in (x, classes.order, classes.offsets))
    loss, grad = pair_loss(*given, None, [], "rbf", 2.0, "ieee", True)
    wanted, wanted_grad = expected(x, classes.labels, "rbf", 2.0)
    torch.testing.assert_close(loss.cpu().double(), wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(grad.cpu().double(), wanted_grad, rtol=1e-3, atol=1e-7)
