"""The nearest-neighbour loss, once every row's neighbour is known: exact pairs and gradients."""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import config
from .maths import inverse_norm, load_row, load_rows, nan_of
from .problem import Problem

ROWS = 16


@triton.jit
def nearest_pairs_kernel(
    x_ptr,  # [N, D]
    order_ptr,
    neighbour_ptr,  # [end] position or -1
    scale_ptr,  # [end] 1 / |x|
    rise_ptr,  # [end] d(cosine) / d(log |x_i|) were u not normalised, of i with its neighbour
    fall_ptr,  # [end] the same, of the neighbour with i
    partial_ptr,  # [blocks]
    end,
    D,
    stride_xn,
    stride_xd,
    loss_scale,
    BR: tl.constexpr,
    BD: tl.constexpr,
):
    """Cosines with the neighbour by differences in float32; grid: (end / BR,)."""
    o_r = tl.program_id(0) * BR + tl.arange(0, BR)
    m_r = o_r < end
    neighbour = tl.load(neighbour_ptr + o_r, mask=m_r, other=-1)
    m_pair = neighbour >= 0
    rows = tl.load(order_ptr + o_r, mask=m_r, other=0)
    others = tl.load(order_ptr + neighbour, mask=m_pair, other=0)
    square, square_other = tl.zeros([BR], tl.float32), tl.zeros([BR], tl.float32)
    for k in range(0, D, BD):
        o_d = k + tl.arange(0, BD)
        x = load_rows(x_ptr, rows, o_d, m_r, D, stride_xn, stride_xd)
        y = load_rows(x_ptr, others, o_d, m_pair, D, stride_xn, stride_xd)
        square += tl.sum(x * x, 1)
        square_other += tl.sum(y * y, 1)
    scale, scale_other = inverse_norm(square), inverse_norm(square_other)
    d2 = tl.zeros([BR], tl.float32)
    for k in range(0, D, BD):
        o_d = k + tl.arange(0, BD)
        x = load_rows(x_ptr, rows, o_d, m_r, D, stride_xn, stride_xd)
        y = load_rows(x_ptr, others, o_d, m_pair, D, stride_xn, stride_xd)
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
    x_ptr,  # [N, D]
    order_ptr,
    neighbour_ptr,  # [end]
    scale_ptr,  # [end]
    rise_ptr,  # [end]
    fall_ptr,  # [end]
    chosen_by_ptr,  # [end] positions sorted by their neighbour
    starts_ptr,  # [end + 1] where those who chose a position begin
    grad_ptr,  # [N, D] float32
    D,
    stride_xn,
    stride_xd,
    grad_scale,
    BD: tl.constexpr,
):
    """Gradient of one row from its neighbour and those who chose it; grid: (end, D / BD)."""
    position = tl.program_id(0)
    o_d = tl.program_id(1) * BD + tl.arange(0, BD)
    row = tl.load(order_ptr + position)
    scale = tl.load(scale_ptr + position)
    x = load_row(x_ptr, row, o_d, D, stride_xd, stride_xn)
    grad = tl.zeros([BD], tl.float32)
    rho = 0.0
    neighbour = tl.load(neighbour_ptr + position)
    if neighbour >= 0:
        y = load_row(x_ptr, tl.load(order_ptr + neighbour), o_d, D, stride_xd, stride_xn)
        scale_other = tl.load(scale_ptr + neighbour)
        grad += scale * (x - y) + (scale - scale_other) * y
        rho += tl.load(rise_ptr + position)
    begin, end = tl.load(starts_ptr + position), tl.load(starts_ptr + position + 1)
    for i in range(begin, end):
        other = tl.load(chosen_by_ptr + i)
        y = load_row(x_ptr, tl.load(order_ptr + other), o_d, D, stride_xd, stride_xn)
        scale_other = tl.load(scale_ptr + other)
        grad += scale * (x - y) + (scale - scale_other) * y
        rho += tl.load(fall_ptr + other)
    grad = grad_scale * scale * (grad - rho * scale * x)
    tl.store(grad_ptr + row * D + o_d, grad, mask=o_d < D)


def launch_nearest(problem: Problem, neighbour: Tensor, grad: Tensor) -> Tensor:
    """Parts of the loss; gradient rows are written if problem.need_grad.

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
        x,
        problem.order,
        neighbour,
        scale,
        rise,
        fall,
        partial,
        end,
        D,
        x.stride(0),
        x.stride(1),
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
            x,
            problem.order,
            neighbour,
            scale,
            rise,
            fall,
            chosen_by,
            torch.searchsorted(chosen, positions),
            grad,
            D,
            x.stride(0),
            x.stride(1),
            problem.grad_scale,
            BD=block,
            num_warps=4,
        )
    return partial
