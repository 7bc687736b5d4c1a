"""Operands of the products of tiled classes: rows sorted, shifted, rounded and padded."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import config
from .maths import inverse_norm, load_row, load_rows, to_operand
from .problem import Problem
from .tiles import TILE


class Operands(NamedTuple):
    """One row for each row of a tiled class, in the order of the tables."""

    a: Tensor  # [R, width] in the dtype of the products
    norm: Tensor  # [R] float32, |a|^2 as rounded
    scale: Tensor  # [R] float32, 1 / |x| for the cosine kinds, else 1
    centres: Tensor  # [K, D] float32
    shift_scale: Tensor  # [classes] float32, a = x * scale - centre * shift_scale


@triton.jit
def operands_kernel(
    x_ptr,  # [N, D]
    order_ptr,
    centre_ptr,  # [K, D] float32
    classes_ptr,  # [., 4]
    row_tiles_ptr,  # [., 4]
    a_ptr,  # [R, width]
    norm_ptr,  # [R]
    scale_ptr,  # [R]
    shift_scale_ptr,  # [classes]
    D,
    width,
    stride_xn,
    stride_xd,
    COSINE: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BR: tl.constexpr,
    BD: tl.constexpr,
):
    """Operands of BR rows of a row tile; grid: (row tiles * BT / BR,)."""
    i_tile, i_part = tl.program_id(0) // (BT // BR), tl.program_id(0) % (BT // BR)
    tiled_class = tl.load(row_tiles_ptr + i_tile * 4)
    first_r = tl.load(row_tiles_ptr + i_tile * 4 + 1) * BT + i_part * BR
    p_class = classes_ptr + tiled_class * 4
    begin, end, delta = tl.load(p_class), tl.load(p_class + 1), tl.load(p_class + 2)
    p_centre = centre_ptr + tl.load(p_class + 3).to(tl.int64) * D
    o_r = begin + first_r + tl.arange(0, BR)
    m_r = o_r < end
    rows = tl.load(order_ptr + o_r + delta, mask=m_r, other=0)
    scale = tl.full([BR], 1.0, tl.float32)
    shift_scale = 1.0
    if COSINE:
        square = tl.zeros([BR], tl.float32)
        shift_square = 0.0
        for k in range(0, D, BD):
            o_d = k + tl.arange(0, BD)
            x = load_rows(x_ptr, rows, o_d, m_r, D, stride_xn, stride_xd)
            centre = load_row(p_centre, 0, o_d, D, 1, 0)
            square += tl.sum(x * x, 1)
            shift_square += tl.sum(centre * centre)
        scale = inverse_norm(square)
        shift_scale = inverse_norm(shift_square)
    norm = tl.zeros([BR], tl.float32)
    for k in range(0, width, BD):
        o_d = k + tl.arange(0, BD)
        x = load_rows(x_ptr, rows, o_d, m_r, D, stride_xn, stride_xd)
        centre = load_row(p_centre, 0, o_d, D, 1, 0)
        a = to_operand(x * scale[:, None] - (centre * shift_scale)[None, :], PRECISION)
        norm += tl.sum(a.to(tl.float32) * a.to(tl.float32), 1)
        p_a = a_ptr + o_r.to(tl.int64)[:, None] * width + o_d[None, :]
        tl.store(p_a, a, mask=m_r[:, None] & (o_d < width)[None, :])
    tl.store(norm_ptr + o_r, norm, mask=m_r)
    tl.store(scale_ptr + o_r, scale, mask=m_r)
    if first_r == 0:
        tl.store(shift_scale_ptr + tiled_class, shift_scale)


def make_operands(problem: Problem, centres: Tensor) -> Operands:
    """Operands of every row of a tiled class.

    Args:
        problem: what to compute; at least one class is tiled.
        centres: [K, D] float32, of which the direction is subtracted for the cosine kinds.
    """
    x, tables, rows = problem.features, problem.tables, problem.numbers.operand_rows
    D = x.shape[1]
    width = max(triton.cdiv(D, config.WIDTH_STEP), 1) * config.WIDTH_STEP
    a = x.new_empty((rows, width), dtype=config.operand_dtype(problem.precision))
    norm, scale = (centres.new_empty(rows) for _ in range(2))
    shift_scale = centres.new_empty(len(tables.classes))
    block_rows = 16
    operands_kernel[(len(tables.row_tiles) * (TILE // block_rows),)](
        x,
        problem.order,
        centres,
        tables.classes,
        tables.row_tiles,
        a,
        norm,
        scale,
        shift_scale,
        D,
        width,
        x.stride(0),
        x.stride(1),
        COSINE=problem.cosine,
        PRECISION=problem.precision,
        BT=TILE,
        BR=block_rows,
        BD=config.column_block(width, 256),
        num_warps=4,
    )
    return Operands(a, norm, scale, centres, shift_scale)
