"""Tiled classes, row by row: the log-sum-exp of every row, or its nearest neighbour.

The tiles of a row of tiles are split among several programs, called sweeps, so that a few large
classes fill a GPU. A second kernel joins their results in order.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import config
from .arguments import Operands, TilePair, load_class, load_units
from .distances import any_near, near_tile_distances, tile_distances
from .maths import closeness, log_add_exp, nan_of, row_best, row_log_sum_exp, similarities
from .problem import Problem
from .tiles import TILE


@triton.jit
def _update(value, index, d2, unit_r, operands, pair, parameter, KIND: tl.constexpr):
    """Join a tile of distances to what is known of its rows: log-sum-exp, or best and its index."""
    o_c = pair.first_c + tl.arange(0, d2.shape[1])
    unit_c = load_units(operands, o_c, pair.end)
    if KIND == "infonce":
        logit = similarities(d2, unit_r, unit_c) * parameter
        return log_add_exp(value, row_log_sum_exp(logit)), index
    else:
        best, at = row_best(closeness(d2, unit_c), o_c)
        return tl.maximum(value, best), tl.where(best > value, at, index)


@triton.jit
def row_sweep_kernel(
    operands,  # Operands
    features,  # Features
    classes_ptr,  # [tiled classes, 4]
    sweeps_ptr,  # [sweeps, 4]
    value_ptr,  # [sweeps, BT]
    index_ptr,  # [sweeps, BT], of kind nearest
    parameter,
    threshold,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    """One sweep: a tile of BT rows of a class against some of the class's tiles of BT columns.

    Grid: (sweeps,). Row `program_id(0)` of the table of sweeps names the class, the tile of rows
    and the range of tiles of columns. The program owns row `program_id(0)` of its outputs. For kind
    infonce it writes to value_ptr the log-sum-exp of (cosine * parameter) over its columns, for
    kind nearest the greatest closeness, and to index_ptr the operand row that has it (-1 for none).

    Distances come from products along steps of BD columns of the operands. A tile that has near
    pairs is computed a second time, in parts of BN columns, because exact distances take registers.
    """
    i_sweep = tl.program_id(0).to(tl.int64)
    begin, end, delta = load_class(classes_ptr, tl.load(sweeps_ptr + i_sweep * 4))
    first_r = begin + tl.load(sweeps_ptr + i_sweep * 4 + 1) * BT
    o_t = tl.arange(0, BT)
    unit_r = load_units(operands, first_r + o_t, end)
    value = tl.full([BT], -float("inf"), tl.float32)
    index = tl.full([BT], -1, tl.int32)
    column_begin = tl.load(sweeps_ptr + i_sweep * 4 + 2)
    column_end = tl.load(sweeps_ptr + i_sweep * 4 + 3)
    for j in range(column_begin, column_end):
        first_c = begin + j * BT
        pair = TilePair(first_r, first_c, end, delta)
        d2 = tile_distances(operands, pair, threshold, PRECISION, BT, BT, BD)
        if any_near(d2):
            for c in range(first_c, first_c + BT, BN):
                narrow = TilePair(first_r, c, end, delta)
                part = near_tile_distances(
                    operands, features, narrow, threshold, True, PRECISION, BT, BN, BD
                )
                value, index = _update(
                    value, index, tl.abs(part), unit_r, operands, narrow, parameter, KIND
                )
        else:
            value, index = _update(value, index, d2, unit_r, operands, pair, parameter, KIND)
    tl.store(value_ptr + i_sweep * BT + o_t, value)
    if KIND == "nearest":
        tl.store(index_ptr + i_sweep * BT + o_t, index)


@triton.jit
def merge_sweeps_kernel(
    norm_ptr,  # [R]
    classes_ptr,  # [tiled classes, 4]
    row_tiles_ptr,  # [row tiles, 4]
    value_ptr,  # [sweeps, BT]
    index_ptr,  # [sweeps, BT], of kind nearest
    lse_ptr,  # [R], of kind infonce
    neighbour_ptr,  # [N], of kind nearest
    partial_ptr,  # [row tiles], of kind infonce
    loss_scale,
    KIND: tl.constexpr,
    BT: tl.constexpr,
):
    """Join the sweeps of one tile of BT rows, in order.

    Grid: (row tiles,). Row `program_id(0)` of the table of row tiles names the class, the tile and
    its sweeps. For kind infonce the program writes the log-sum-exp of its rows to lse_ptr, by
    operand row, and their share of the loss to partial_ptr[program_id(0)]. For kind nearest it
    writes the position of each row's neighbour (-1 for none) to neighbour_ptr, by position.
    """
    i_tile = tl.program_id(0).to(tl.int64)
    begin, end, delta = load_class(classes_ptr, tl.load(row_tiles_ptr + i_tile * 4))
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
    """Compute what every row of a tiled class needs to know of the other rows.

    Args:
        problem: of kind infonce or nearest.
        operands: of make_operands.
        lse: [R] float32, for infonce: log of the sum of exp(cosine / temperature) over the others.
        neighbour: [N] int32, for nearest: the position of the nearest other row, by position.
        partial: [row tiles] float32, for infonce: parts of the loss.
    """
    tables = problem.tables
    sweeps = len(tables.sweeps)
    value = lse.new_empty((sweeps, TILE))
    index = value.new_empty((sweeps, TILE), dtype=torch.int32) if neighbour.numel() else neighbour
    block, num_warps, num_stages = config.gram_config(problem.arch, problem.precision)
    row_sweep_kernel[(sweeps,)](
        operands,
        problem.rows,
        tables.classes,
        tables.sweeps,
        value,
        index,
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
