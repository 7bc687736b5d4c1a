"""The operands of the products of tiled classes: their rows sorted, shifted, rounded and padded."""

# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import config
from .arguments import Operands, Shifts, feature_rows, load_class, load_row
from .maths import inverse_norm, to_operand
from .problem import Problem
from .tiles import TILE


@triton.jit
def operands_kernel(
    features,  # Features
    centre_ptr,  # [K, D] float32
    classes_ptr,  # [tiled classes, 4]
    row_tiles_ptr,  # [row tiles, 4]
    operands,  # Operands, written
    shift_scale_ptr,  # [tiled classes], written
    COSINE: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BR: tl.constexpr,
    BD: tl.constexpr,
):
    """Operands of BR rows of a class: a = x * scale - centre * shift_scale, rounded.

    Grid: (row tiles * BT / BR,). A tile of BT rows, which row `program_id(0) // (BT / BR)` of the
    table of row tiles names, is split among BT / BR programs. Each owns BR operand rows. It writes
    all their columns, in steps of BD and with zeros from D to `width`, and their entries of norm
    and scale. The program of the first rows of a class also writes the shift_scale of the class.

    For the cosine kinds scale is 1 / |x| and shift_scale is 1 / |centre|; both take a sweep of
    their own. For the others both are 1.
    """
    i_tile, i_part = tl.program_id(0) // (BT // BR), tl.program_id(0) % (BT // BR)
    tiled_class = tl.load(row_tiles_ptr + i_tile * 4)
    first_r = tl.load(row_tiles_ptr + i_tile * 4 + 1) * BT + i_part * BR
    begin, end, delta = load_class(classes_ptr, tiled_class)
    segment = tl.load(classes_ptr + tiled_class * 4 + 3).to(tl.int64)
    D, width = features.columns, operands.width
    p_centre = centre_ptr + segment * D
    o_r = begin + first_r + tl.arange(0, BR)
    m_r = o_r < end
    rows = tl.load(features.order + o_r + delta, mask=m_r, other=0)
    scale = tl.full([BR], 1.0, tl.float32)
    shift_scale = 1.0
    if COSINE:
        square = tl.zeros([BR], tl.float32)
        shift_square = 0.0
        for k in range(0, D, BD):
            o_d = k + tl.arange(0, BD)
            x = feature_rows(features, rows, o_d, m_r)
            centre = load_row(p_centre, 0, o_d, D, 0, 1)
            square += tl.sum(x * x, 1)
            shift_square += tl.sum(centre * centre)
        scale = inverse_norm(square)
        shift_scale = inverse_norm(shift_square)
    norm = tl.zeros([BR], tl.float32)
    for k in range(0, width, BD):
        o_d = k + tl.arange(0, BD)
        x = feature_rows(features, rows, o_d, m_r)
        centre = load_row(p_centre, 0, o_d, D, 0, 1)
        a = to_operand(x * scale[:, None] - (centre * shift_scale)[None, :], PRECISION)
        norm += tl.sum(a.to(tl.float32) * a.to(tl.float32), 1)
        p_a = operands.a + o_r.to(tl.int64)[:, None] * width + o_d[None, :]
        tl.store(p_a, a, mask=m_r[:, None] & (o_d < width)[None, :])
    tl.store(operands.norm + o_r, norm, mask=m_r)
    tl.store(operands.scale + o_r, scale, mask=m_r)
    if first_r == 0:
        tl.store(shift_scale_ptr + tiled_class, shift_scale)


def make_operands(problem: Problem, centres: Tensor) -> tuple[Operands, Shifts]:
    """Operands of every row of a tiled class, and what was subtracted from them.

    Args:
        problem: what to compute; at least one class is tiled.
        centres: [K, D] float32; for the cosine kinds only their directions count.
    """
    x, tables, rows = problem.features, problem.tables, problem.numbers.operand_rows
    width = max(triton.cdiv(x.shape[1], config.WIDTH_STEP), 1) * config.WIDTH_STEP
    a = x.new_empty((rows, width), dtype=config.operand_dtype(problem.precision))
    norm, scale = (centres.new_empty(rows) for _ in range(2))
    operands = Operands(a, norm, scale, width)
    shifts = Shifts(centres, centres.new_empty(len(tables.classes)))
    block_rows = 16
    operands_kernel[(len(tables.row_tiles) * (TILE // block_rows),)](
        problem.rows,
        centres,
        tables.classes,
        tables.row_tiles,
        operands,
        shifts.scale,
        COSINE=problem.cosine,
        PRECISION=problem.precision,
        BT=TILE,
        BR=block_rows,
        BD=config.column_block(width, 256),
        num_warps=4,
    )
    return operands, shifts
