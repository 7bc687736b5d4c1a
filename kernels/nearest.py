"""The nearest-neighbour loss once the neighbour of every row is known: exact cosines, gradients."""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import config
from .arguments import feature_row, feature_rows
from .maths import inverse_norm, nan_of
from .problem import Problem

ROWS = 16


@triton.jit
def nearest_pairs_kernel(
    features,  # Features
    neighbour_ptr,  # [end] position or -1
    scale_ptr,  # [end] 1 / |x|
    rise_ptr,  # [end] d(cosine) / d(log |x_i|) were u not normalised, of i with its neighbour
    fall_ptr,  # [end] the same, of the neighbour with i
    partial_ptr,  # [blocks]
    end,
    loss_scale,
    BR: tl.constexpr,
    BD: tl.constexpr,
):
    """The cosine of each row with its neighbour, from differences of features in float32.

    Grid: (end / BR,). A program owns BR consecutive positions. It reads their rows and those of
    their neighbours in steps of BD columns, once for the norms and once for the distances. It
    writes scale, rise and fall of its positions, and its share of the loss to
    partial_ptr[program_id(0)].
    """
    o_r = tl.program_id(0) * BR + tl.arange(0, BR)
    m_r = o_r < end
    neighbour = tl.load(neighbour_ptr + o_r, mask=m_r, other=-1)
    m_pair = neighbour >= 0
    rows = tl.load(features.order + o_r, mask=m_r, other=0)
    others = tl.load(features.order + neighbour, mask=m_pair, other=0)
    square, square_other = tl.zeros([BR], tl.float32), tl.zeros([BR], tl.float32)
    for k in range(0, features.columns, BD):
        o_d = k + tl.arange(0, BD)
        x = feature_rows(features, rows, o_d, m_r)
        y = feature_rows(features, others, o_d, m_pair)
        square += tl.sum(x * x, 1)
        square_other += tl.sum(y * y, 1)
    scale, scale_other = inverse_norm(square), inverse_norm(square_other)
    d2 = tl.zeros([BR], tl.float32)
    for k in range(0, features.columns, BD):
        o_d = k + tl.arange(0, BD)
        x = feature_rows(features, rows, o_d, m_r)
        y = feature_rows(features, others, o_d, m_pair)
        step = scale[:, None] * (x - y) + (scale - scale_other)[:, None] * y
        d2 += tl.sum(step * step, 1)
    unit = tl.where(scale == 0.0, 0.0, 1.0)
    unit_other = tl.where(scale_other == 0.0, 0.0, 1.0)
    tl.store(scale_ptr + o_r, scale, mask=m_r)
    tl.store(rise_ptr + o_r, 0.5 * (unit - unit_other + d2), mask=m_r)
    tl.store(fall_ptr + o_r, 0.5 * (unit_other - unit + d2), mask=m_r)
    cosine = tl.where(m_pair, 0.5 * (unit + unit_other - d2), 0.0)
    tl.store(partial_ptr + tl.program_id(0), tl.sum(cosine) * loss_scale + nan_of(square))


@triton.jit
def nearest_gradient_kernel(
    features,  # Features
    neighbour_ptr,  # [end]
    scale_ptr,  # [end]
    rise_ptr,  # [end]
    fall_ptr,  # [end]
    chosen_by_ptr,  # [end] positions sorted by their neighbour
    starts_ptr,  # [end + 1] where the list of those who chose a position begins
    grad_ptr,  # [N, D] float32
    grad_scale,
    BD: tl.constexpr,
):
    """The gradient of one row, from its neighbour and from the rows whose neighbour it is.

    Grid: (end, D / BD). A program owns BD columns of the row at position `program_id(0)` and writes
    them to grad_ptr. The rows that chose it stand in a list sorted by neighbour, so that they are
    added in a fixed order.
    """
    position = tl.program_id(0)
    o_d = tl.program_id(1) * BD + tl.arange(0, BD)
    row = tl.load(features.order + position)
    scale = tl.load(scale_ptr + position)
    x = feature_row(features, row, o_d)
    grad = tl.zeros([BD], tl.float32)
    rho = 0.0
    neighbour = tl.load(neighbour_ptr + position)
    if neighbour >= 0:
        y = feature_row(features, tl.load(features.order + neighbour), o_d)
        scale_other = tl.load(scale_ptr + neighbour)
        grad += scale * (x - y) + (scale - scale_other) * y
        rho += tl.load(rise_ptr + position)
    begin, end = tl.load(starts_ptr + position), tl.load(starts_ptr + position + 1)
    for i in range(begin, end):
        other = tl.load(chosen_by_ptr + i)
        y = feature_row(features, tl.load(features.order + other), o_d)
        scale_other = tl.load(scale_ptr + other)
        grad += scale * (x - y) + (scale - scale_other) * y
        rho += tl.load(fall_ptr + other)
    grad = grad_scale * scale * (grad - rho * scale * x)
    p_grad = grad_ptr + row * features.columns + o_d
    tl.store(p_grad, grad, mask=o_d < features.columns)


def launch_nearest(problem: Problem, neighbour: Tensor, grad: Tensor) -> Tensor:
    """Return parts of the loss; write the gradient rows if problem.need_grad.

    Args:
        problem: of kind nearest.
        neighbour: [end] int32, position of each position's nearest other row, -1 for none.
        grad: [N, D] float32.

    Returns:
        [blocks] float32, to be summed.
    """
    x, end = problem.features, problem.numbers.end
    D = x.shape[1]
    scale, rise, fall = (x.new_empty(end, dtype=torch.float32) for _ in range(3))
    blocks = triton.cdiv(end, ROWS)
    partial = x.new_empty(blocks, dtype=torch.float32)
    if end == 0:
        return partial
    nearest_pairs_kernel[(blocks,)](
        problem.rows,
        neighbour,
        scale,
        rise,
        fall,
        partial,
        end,
        problem.loss_scale,
        BR=ROWS,
        BD=config.column_block(D, 128),
        num_warps=4,
    )
    if problem.need_grad and D > 0:
        chosen, chosen_by = torch.sort(neighbour, stable=True)
        positions = torch.arange(end + 1, dtype=torch.int32, device=x.device)
        block = config.column_block(D, 1024)
        nearest_gradient_kernel[(end, triton.cdiv(D, block))](
            problem.rows,
            neighbour,
            scale,
            rise,
            fall,
            chosen_by,
            torch.searchsorted(chosen, positions),
            grad,
            problem.grad_scale,
            BD=block,
            num_warps=4,
        )
    return partial
