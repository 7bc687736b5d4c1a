"""Pair losses of all kinds over ragged classes, and their gradients, in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from . import config
from .centres import class_centres, device_guard
from .nearest import launch_nearest
from .operands import make_operands
from .pair_small import launch_small
from .pair_sweep import sweep_rows
from .pair_tiled import launch_tiled, partial_size
from .problem import Problem, read_tables
from .tiles import unpack

KINDS = ("infonce", "rbf", "hinge", "nearest")


def pair_loss(
    features: Tensor,
    order: Tensor,
    offsets: Tensor,
    centres: Tensor | None,
    tables: list[Tensor],
    kind: str,
    parameter: float,
    precision: str,
    need_grad: bool,
) -> tuple[Tensor, Tensor]:
    """The intra-class loss over the segments of order, and its gradient if need_grad.

    Computes the intra-class loss of the package on features[order[: offsets[-1]]], with the same
    bits at every call. With tables it reads nothing from the device, so that a CUDA graph can
    capture the call.

    Args:
        features: [N, D] float32, float16 or bfloat16, any strides.
        order: [N] int64, row numbers; those from offsets[K] on are of no class.
        offsets: [K+1] int64, non-decreasing, from 0 to at most N.
        centres: [K, D] means of the segments if the caller has them.
        tables: of `tile_tables`; if empty they are made here, which waits for the device.
        kind: infonce, rbf, hinge or nearest.
        parameter: temperature, sigma or margin.
        precision: of the products: bf16, tf32, tf32x3 or ieee; sums are float32.
        need_grad: whether the gradient is needed.

    Returns:
        loss, float32 scalar; gradient [N, D] float32, or of shape (0,).

    Raises:
        RuntimeError: tables is empty while a CUDA graph is captured.
        ValueError: a dtype, kind or precision is not allowed, or the tables were made from other
            offsets.
    """
    config.check(features, precision)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    N, D = features.shape
    tables = read_tables(offsets, N, tables)
    precision = config.effective_precision(precision)
    problem = Problem(
        features,
        order.contiguous(),
        offsets.contiguous(),
        centres,
        *unpack(tables),
        kind,
        parameter,
        precision,
        need_grad,
    )
    grad = features.new_empty((N, D) if need_grad else (0,), dtype=torch.float32)
    with device_guard(features):
        if need_grad and problem.numbers.end < N:
            grad.index_fill_(0, order[problem.numbers.end :], 0.0)
        shifts = _shifts(problem, tables)
        parts = (
            _nearest(problem, shifts, grad) if kind == "nearest" else _sums(problem, shifts, grad)
        )
        loss = parts.sum(dtype=torch.float64).to(torch.float32)
    return loss, grad


def _shifts(problem: Problem, tables: list[Tensor]) -> Tensor | None:
    """Class centres to subtract; small classes of the cosine kinds need none."""
    if problem.centres is not None:
        return problem.centres.detach().to(torch.float32).contiguous()
    if problem.cosine and problem.numbers.operand_rows == 0:
        return None
    return class_centres(problem.features, problem.order, problem.offsets, tables)


def _sums(problem: Problem, shifts: Tensor | None, grad: Tensor) -> Tensor:
    packed = len(problem.tables.positions)
    # the parts of tiled classes start at a multiple of 16 bytes, or Triton would compile again
    start = -(-packed // 4) * 4
    partial = problem.features.new_zeros(start + partial_size(problem), dtype=torch.float32)
    launch_small(problem, shifts, partial, grad, problem.tables.positions)
    if shifts is not None:
        launch_tiled(problem, shifts, partial[start:], grad)
    return partial


def _nearest(problem: Problem, shifts: Tensor | None, grad: Tensor) -> Tensor:
    end = problem.numbers.end
    neighbour = problem.tables.positions.new_empty(end)
    unused = problem.features.new_empty(0, dtype=torch.float32)
    launch_small(problem, shifts, unused, grad, neighbour)
    if shifts is not None and problem.numbers.operand_rows:
        operands, _ = make_operands(problem, shifts)
        sweep_rows(problem, operands, unused, neighbour, unused)
    return launch_nearest(problem, neighbour, grad)
