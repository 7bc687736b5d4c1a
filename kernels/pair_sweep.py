"""Sweeps of tiled classes that leave one number a row: log-sum-exp, or the nearest neighbour."""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import config
from .maths import (
    any_near,
    closeness,
    exact_distances,
    log_add_exp,
    mark_distances,
    multiply,
    nan_of,
    row_best,
    row_log_sum_exp,
    similarities,
)
from .operands import Operands
from .problem import Problem
from .tiles import TILE


@triton.jit
def tile_distances(
    a_ptr,
    norm_ptr,
    first_r,
    first_c,
    end,
    width,
    threshold,
    PRECISION: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
):
    """Squared distances of two tiles of rows of a class: inf for no pair, negative if near."""
    o_r, o_c = first_r + tl.arange(0, BR), first_c + tl.arange(0, BC)
    m_r, m_c = o_r < end, o_c < end
    p_r = a_ptr + o_r.to(tl.int64)[:, None] * width
    p_c = a_ptr + o_c.to(tl.int64)[:, None] * width
    gram = tl.zeros([BR, BC], tl.float32)
    for k in range(0, width, BD):
        o_d = k + tl.arange(0, BD)
        a_r = tl.load(p_r + o_d[None, :], mask=m_r[:, None], other=0.0)
        a_c = tl.load(p_c + o_d[None, :], mask=m_c[:, None], other=0.0)
        gram = multiply(a_r, tl.trans(a_c), gram, PRECISION)
    norm_r = tl.load(norm_ptr + o_r, mask=m_r, other=0.0)
    norm_c = tl.load(norm_ptr + o_c, mask=m_c, other=0.0)
    m_pair = m_r[:, None] & m_c[None, :] & (o_r[:, None] != o_c[None, :])
    return mark_distances(gram, norm_r, norm_c, m_pair, threshold)


@triton.jit
def tile_exact_distances(
    d2,
    scale_ptr,
    x_ptr,
    order_ptr,
    first_r,
    first_c,
    end,
    delta,
    D,
    stride_xn,
    stride_xd,
    COSINE: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    """`exact_distances` of two tiles of rows of a class."""
    o_r, o_c = first_r + tl.arange(0, BR), first_c + tl.arange(0, BC)
    return exact_distances(
        d2,
        x_ptr,
        tl.load(order_ptr + o_r + delta, mask=o_r < end, other=0),
        o_r < end,
        tl.load(order_ptr + o_c + delta, mask=o_c < end, other=0),
        tl.load(scale_ptr + o_r, mask=o_r < end, other=0.0),
        tl.load(scale_ptr + o_c, mask=o_c < end, other=0.0),
        D,
        stride_xn,
        stride_xd,
        COSINE,
        BC,
        32,
    )


@triton.jit
def load_units(scale_ptr, o_r, end):
    """Norms of normalised rows: 1, or 0 for a zero row."""
    return tl.where(tl.load(scale_ptr + o_r, mask=o_r < end, other=0.0) == 0.0, 0.0, 1.0)


@triton.jit
def _update(value, index, d2, unit_r, scale_ptr, first_c, end, parameter, KIND: tl.constexpr):
    o_c = first_c + tl.arange(0, d2.shape[1])
    unit_c = load_units(scale_ptr, o_c, end)
    if KIND == "infonce":
        logit = similarities(d2, unit_r, unit_c) * parameter
        return log_add_exp(value, row_log_sum_exp(logit)), index
    else:
        best, at = row_best(closeness(d2, unit_c), o_c)
        return tl.maximum(value, best), tl.where(best > value, at, index)


@triton.jit
def row_sweep_kernel(
    a_ptr,  # [R, width]
    norm_ptr,  # [R]
    scale_ptr,  # [R]
    x_ptr,  # [N, D]
    order_ptr,
    classes_ptr,  # [., 4]
    sweeps_ptr,  # [sweeps, 4]
    value_ptr,  # [sweeps, BT]
    index_ptr,  # [sweeps, BT]
    D,
    width,
    stride_xn,
    stride_xd,
    parameter,
    threshold,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    """One row tile against some column tiles; grid: (sweeps,)."""
    i_sweep = tl.program_id(0).to(tl.int64)
    p_class = classes_ptr + tl.load(sweeps_ptr + i_sweep * 4) * 4
    begin, end, delta = tl.load(p_class), tl.load(p_class + 1), tl.load(p_class + 2)
    first_r = begin + tl.load(sweeps_ptr + i_sweep * 4 + 1) * BT
    o_t = tl.arange(0, BT)
    unit_r = load_units(scale_ptr, first_r + o_t, end)
    value = tl.full([BT], -float("inf"), tl.float32)
    index = tl.full([BT], -1, tl.int32)
    column_begin = tl.load(sweeps_ptr + i_sweep * 4 + 2)
    column_end = tl.load(sweeps_ptr + i_sweep * 4 + 3)
    for j in range(column_begin, column_end):
        first_c = begin + j * BT
        d2 = tile_distances(
            a_ptr, norm_ptr, first_r, first_c, end, width, threshold, PRECISION, BT, BT, BD
        )
        if any_near(d2):
            # over again in narrow parts, because registers hold no more
            for c in range(first_c, first_c + BT, BN):
                part = tile_distances(
                    a_ptr, norm_ptr, first_r, c, end, width, threshold, PRECISION, BT, BN, BD
                )
                part = tile_exact_distances(
                    part,
                    scale_ptr,
                    x_ptr,
                    order_ptr,
                    first_r,
                    c,
                    end,
                    delta,
                    D,
                    stride_xn,
                    stride_xd,
                    True,
                    BT,
                    BN,
                )
                value, index = _update(
                    value, index, tl.abs(part), unit_r, scale_ptr, c, end, parameter, KIND
                )
        else:
            value, index = _update(
                value, index, d2, unit_r, scale_ptr, first_c, end, parameter, KIND
            )
    tl.store(value_ptr + i_sweep * BT + o_t, value)
    if KIND == "nearest":
        tl.store(index_ptr + i_sweep * BT + o_t, index)


@triton.jit
def merge_sweeps_kernel(
    norm_ptr,  # [R]
    classes_ptr,  # [., 4]
    row_tiles_ptr,  # [row tiles, 4]
    value_ptr,  # [sweeps, BT]
    index_ptr,  # [sweeps, BT]
    lse_ptr,  # [R], of kind infonce
    neighbour_ptr,  # [N], of kind nearest
    partial_ptr,  # [row tiles], of kind infonce
    loss_scale,
    KIND: tl.constexpr,
    BT: tl.constexpr,
):
    """Join the sweeps of one row tile in order; grid: (row tiles,)."""
    i_tile = tl.program_id(0).to(tl.int64)
    p_class = classes_ptr + tl.load(row_tiles_ptr + i_tile * 4) * 4
    begin, end, delta = tl.load(p_class), tl.load(p_class + 1), tl.load(p_class + 2)
    o_t = tl.arange(0, BT)
    o_r = begin + tl.load(row_tiles_ptr + i_tile * 4 + 1) * BT + o_t
    o_first = tl.load(row_tiles_ptr + i_tile * 4 + 2).to(tl.int64) * BT + o_t
    value = tl.full([BT], -float("inf"), tl.float32)
    index = tl.full([BT], -1, tl.int32)
    for i in range(tl.load(row_tiles_ptr + i_tile * 4 + 3)):
        part = tl.load(value_ptr + o_first + i * BT)
        if KIND == "infonce":
            value = log_add_exp(value, part)
        else:
            at = tl.load(index_ptr + o_first + i * BT)
            index = tl.where(part > value, at, index)
            value = tl.maximum(value, part)
    m_r = o_r < end
    if KIND == "infonce":
        tl.store(lse_ptr + o_r, value, mask=m_r)
        term = value - tl.log((end - begin - 1).to(tl.float32))
        loss = tl.sum(tl.where(m_r, term, 0.0)) * loss_scale
        loss += nan_of(tl.load(norm_ptr + o_r, mask=m_r, other=0.0))
        tl.store(partial_ptr + i_tile, loss)
    else:
        tl.store(neighbour_ptr + o_r + delta, tl.where(index < 0, -1, index + delta), mask=m_r)


def sweep_rows(
    problem: Problem, operands: Operands, lse: Tensor, neighbour: Tensor, partial: Tensor
) -> None:
    """Fill what every row of a tiled class knows of the others.

    Args:
        problem: of kind infonce or nearest.
        operands: of make_operands.
        lse: [R] float32, for infonce: log of the sum of exp(cosine / temperature) over the others.
        neighbour: [N] int32, for nearest: the position of the nearest other row, by position.
        partial: [row tiles] float32, for infonce: parts of the loss.
    """
    x, tables = problem.features, problem.tables
    sweeps = len(tables.sweeps)
    value = lse.new_empty((sweeps, TILE))
    index = value.new_empty((sweeps, TILE), dtype=torch.int32) if neighbour.numel() else neighbour
    block, num_warps, num_stages = config.gram_config(problem.arch, problem.precision)
    row_sweep_kernel[(sweeps,)](
        operands.a,
        operands.norm,
        operands.scale,
        x,
        problem.order,
        tables.classes,
        tables.sweeps,
        value,
        index,
        x.shape[1],
        operands.a.shape[1],
        x.stride(0),
        x.stride(1),
        problem.kernel_parameter,
        config.NEAR[problem.precision],
        KIND=problem.kind,
        PRECISION=problem.precision,
        BT=TILE,
        BN=config.NEAR_COLUMNS,
        BD=block,
        num_warps=num_warps,
        num_stages=num_stages,
    )
    merge_sweeps_kernel[(len(tables.row_tiles),)](
        operands.norm,
        tables.classes,
        tables.row_tiles,
        value,
        index,
        lse,
        neighbour,
        partial,
        problem.loss_scale,
        KIND=problem.kind,
        BT=TILE,
        num_warps=4,
    )
