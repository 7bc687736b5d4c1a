"""What only a GPU can show: compiled bf16 results, repeatable bits, captured graphs, memory."""

from __future__ import annotations

import pytest
import torch
from gencond_fast.kernels.pair_loss import pair_loss
from gencond_fast.kernels.tiles import WORKSPACE_TILES, tile_tables
from kernel_cases import KINDS, check, layout, parameter, run
from torch import Tensor

pytestmark = pytest.mark.gpu
kinds = pytest.mark.parametrize("kind", KINDS)


def on_gpu(sizes: list[int], D: int) -> tuple[list[Tensor], list[Tensor]]:
    classes = layout(sizes)
    given = [torch.randn(sum(sizes), D), classes.order, classes.offsets]
    return [each.cuda() for each in given], tile_tables(classes.offsets, sum(sizes), "cuda")


@pytest.mark.parametrize("kind", ["infonce", "rbf", "hinge"])
@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 5e-2), ("tf32", 1e-2)])
def test_rounded_operands(kind: str, precision: str, tolerance: float) -> None:
    x = torch.randn(1400, 256)
    check(x, layout([1000, 300, 50, 50]), kind, tolerance, precision=precision)


@kinds
def test_near_duplicates_in_bf16(kind: str) -> None:
    classes = layout([300, 50])
    x = torch.randn(350, 128)
    x[classes.order[1::2]] = x[classes.order[::2]] + 1e-3 * torch.randn(175, 128)
    check(x, classes, kind, 5e-2, precision="bf16", value=0.02 if kind == "hinge" else None)


@kinds
def test_repeated_bits(kind: str) -> None:
    classes = layout([700, 200, 40, 3])
    x = torch.randn(943, 96)
    first = run(x, classes, kind, parameter(kind, x), precision="bf16", cap=8)
    for _ in range(3):
        again = run(x, classes, kind, parameter(kind, x), precision="bf16", cap=8)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@kinds
def test_captured_in_a_graph(kind: str) -> None:
    (x, order, offsets), tables = on_gpu([400, 60, 1], 64)
    value = parameter(kind, x)
    call = (order, offsets, None, tables, kind, value, "tf32", True)
    pair_loss(x, *call)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = pair_loss(x, *call)
    x.copy_(torch.randn_like(x))
    graph.replay()
    torch.cuda.synchronize()
    wanted = pair_loss(x, *call)
    assert all(torch.equal(a, b) for a, b in zip(captured, wanted, strict=True))


def test_capture_without_tables_is_refused() -> None:
    (x, order, offsets), _ = on_gpu([30], 8)
    with torch.cuda.graph(torch.cuda.CUDAGraph()), pytest.raises(RuntimeError, match="CUDA graph"):
        pair_loss(x, order, offsets, None, [], "rbf", 1.0, "tf32", True)


@pytest.mark.parametrize("kind", ["infonce", "hinge"])
def test_memory_stays_under_a_ceiling(kind: str) -> None:
    (x, order, offsets), tables = on_gpu([40_000], 64)
    call = (order, offsets, None, tables, kind, parameter(kind, x), "tf32", True)
    pair_loss(x, *call)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    pair_loss(x, *call)
    workspace = WORKSPACE_TILES * 128 * 128 * 4 * 2
    # of a 40,000 x 40,000 matrix only the workspace is there
    assert torch.cuda.max_memory_allocated() - before < workspace + 4 * x.numel() * 4 + 2**24
