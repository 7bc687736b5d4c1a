"""Gradients of tiled classes: the weights in the workspace times the operands, group by group.

A program takes the weights of its rows in a fixed order, so that it needs no atomics.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import config
from .arguments import (
    Operands,
    Shifts,
    Workspace,
    feature_row,
    feature_rows,
    load_class,
    load_row,
)
from .maths import difference, multiply
from .operands import make_operands
from .pair_sweep import sweep_rows
from .pair_weights import launch_weights, make_workspace
from .problem import Problem
from .tiles import TILE, Group


@triton.jit
def _add_near(
    grad_ptr,
    operands,
    features,
    workspace,
    first_slot,
    tiles,
    first_c,
    delta,
    rows,
    m_r,
    scale_r,
    o_d,
    grad_scale,
    COSINE: tl.constexpr,
    BT: tl.constexpr,
):
    """Add the weighted differences of near pairs to columns o_d of the gradient of `rows`.

    The tiles of the rows are in `tiles` slots from first_slot on, the first of which has its
    columns at operand rows from first_c on. They are gone through column by column.
    """
    D = features.columns
    o_t = tl.arange(0, BT)
    p_grad = grad_ptr + rows[:, None] * D + o_d[None, :]
    m_grad = m_r[:, None] & (o_d < D)[None, :]
    for i in range(tiles):
        slot = first_slot + i
        if tl.load(workspace.any_near + slot) > 0:
            grad = tl.zeros([BT, o_d.shape[0]], tl.float32)
            x_r = feature_rows(features, rows, o_d, m_r)
            for j in range(BT):
                weight = tl.load(workspace.near + (slot * BT + j) * BT + o_t).to(tl.float32)
                if tl.max(weight, 0) > 0.0:
                    column = first_c + i * BT + j
                    scale_c = tl.load(operands.scale + column)
                    row_c = tl.load(features.order + column + delta)
                    x_c = feature_row(features, row_c, o_d)
                    grad += weight[:, None] * difference(x_r, x_c, scale_r, scale_c, COSINE)
            grad *= (scale_r * grad_scale)[:, None]
            tl.store(p_grad, tl.load(p_grad, mask=m_grad, other=0.0) + grad, mask=m_grad)


@triton.jit(do_not_specialize=["tiled_class", "row_block", "column_block", "slot_base"])
def pair_gradient_kernel(
    operands,  # Operands
    shifts,  # Shifts
    features,  # Features
    classes_ptr,  # [tiled classes, 4]
    tiles_ptr,  # [tiles, 4]
    workspace,  # Workspace
    grad_ptr,  # [N, D] float32
    tiled_class,
    row_block,
    column_block,
    slot_base,
    grad_scale,
    COSINE: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BJ: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    """BD columns of the gradient of one tile of BT rows: grad_scale * (total * a - far @ a).

    Grid: (tiles * width / BD,). Row `program_id(0) // (width / BD)` of the table of gradient tiles
    names the class, the tile of rows, the number of its tiles in the workspace and the first of
    their slots, which follow one another; the program owns columns number `program_id(0) % (width /
    BD)` times BD and on of these rows. It takes their weights, BJ at a time, times the operands,
    and writes its block to grad_ptr. It then adds the near pairs to what it wrote, BN columns at a
    time. For the cosine kinds the result is projected and scaled, see README.md.

    For a class too large for the workspace, `tiled_class`, `row_block` and `column_block` are added
    to what the table says, `slot_base` to the slot, and launches after the first block of columns
    add to the gradient.
    """
    parts = operands.width // BD
    i_tile, i_part = tl.program_id(0) // parts, tl.program_id(0) % parts
    p_tile = tiles_ptr + i_tile * 4
    tiled_class += tl.load(p_tile)
    begin, end, delta = load_class(classes_ptr, tiled_class)
    first_r = begin + (tl.load(p_tile + 1) + row_block) * BT
    first_c = begin + column_block * BT
    tiles = tl.minimum(tl.load(p_tile + 2), tl.cdiv(end - first_c, BT))
    slot = (tl.load(p_tile + 3) + slot_base).to(tl.int64)
    o_t, o_d = tl.arange(0, BT), i_part * BD + tl.arange(0, BD)
    if first_r < end:
        pull = tl.zeros([BT, BD], tl.float32)
        p_far = workspace.far + slot * BT * BT + o_t[:, None] * BT
        for j in range(0, tiles * BT, BJ):
            o_j = tl.arange(0, BJ)
            o_c = first_c + j + o_j
            far = tl.load(p_far + (j // BT) * (BT * BT) + (j % BT) + o_j[None, :])
            p_c = operands.a + o_c.to(tl.int64)[:, None] * operands.width + o_d[None, :]
            a_c = tl.load(p_c, mask=(o_c < end)[:, None], other=0.0)
            pull = multiply(far, a_c, pull, PRECISION)
        total, rho = tl.zeros([BT], tl.float32), tl.zeros([BT], tl.float32)
        for i in range(tiles):
            total += tl.load(workspace.total + (slot + i) * BT + o_t)
            if COSINE:
                rho += tl.load(workspace.rho + (slot + i) * BT + o_t)

        o_r = first_r + o_t
        m_r = o_r < end
        p_r = operands.a + o_r.to(tl.int64)[:, None] * operands.width + o_d[None, :]
        a_r = tl.load(p_r, mask=m_r[:, None], other=0.0).to(tl.float32)
        rows = tl.load(features.order + o_r + delta, mask=m_r, other=0)
        scale_r = tl.load(operands.scale + o_r, mask=m_r, other=0.0)
        own = grad_scale * total
        along = 0.5 * grad_scale * rho
        grad = (own - along)[:, None] * a_r - grad_scale * pull
        if COSINE:
            segment = tl.load(classes_ptr + tiled_class * 4 + 3).to(tl.int64)
            p_centre = shifts.centres + segment * features.columns
            shift = load_row(p_centre, 0, o_d, features.columns, 0, 1)
            shift = shift * tl.load(shifts.scale + tiled_class)
            # u is a + shift: the features need not be read again
            grad = scale_r[:, None] * (grad - along[:, None] * shift[None, :])
        p_grad = grad_ptr + rows[:, None] * features.columns + o_d[None, :]
        m_grad = m_r[:, None] & (o_d < features.columns)[None, :]
        # each block of columns has a launch of its own; launches run in order
        if column_block > 0:
            grad += tl.load(p_grad, mask=m_grad, other=0.0)
        tl.store(p_grad, grad, mask=m_grad)
        tl.debug_barrier()
        for d in range(0, BD, BN):
            _add_near(
                grad_ptr,
                operands,
                features,
                workspace,
                slot,
                tiles,
                first_c,
                delta,
                rows,
                m_r,
                scale_r,
                i_part * BD + d + tl.arange(0, BN),
                grad_scale,
                COSINE,
                BT,
            )


def launch_tiled(problem: Problem, centres: Tensor, partial: Tensor, grad: Tensor) -> None:
    """Add the loss of tiled classes to partial and write their gradient rows.

    Args:
        problem: of any kind but nearest.
        centres: [K, D] float32.
        partial: [at least `partial_size(problem)`] float32 zeros.
        grad: [N, D] float32, rows of tiled classes written if problem.need_grad.
    """
    if problem.numbers.operand_rows == 0:
        return
    operands, shifts = make_operands(problem, centres)
    lse = operands.norm
    if problem.kind == "infonce":
        lse = lse.new_empty(len(lse))
        sweep_rows(problem, operands, lse, problem.tables.positions[:0], partial)
        if not problem.need_grad:
            return
    workspace = make_workspace(problem, operands)
    for group in problem.groups:
        launch_weights(problem, operands, lse, workspace, partial, group)
        if problem.need_grad:
            _launch_gradients(problem, operands, shifts, workspace, grad, group)


def partial_size(problem: Problem) -> int:
    """How many parts the loss of tiled classes has."""
    if problem.kind == "infonce":
        return len(problem.tables.row_tiles)
    return max((group.weights_end - group.weights_begin for group in problem.groups), default=0)


def _launch_gradients(
    problem: Problem,
    operands: Operands,
    shifts: Shifts,
    workspace: Workspace,
    grad: Tensor,
    group: Group,
) -> None:
    """Add what the weights of a group give to the gradient, for a pair of blocks to both blocks."""
    _launch_gradient(problem, operands, shifts, workspace, grad, group, 0)
    if group.row_block != group.column_block:
        mirrored = group._replace(row_block=group.column_block, column_block=group.row_block)
        half = problem.numbers.slots // 2  # the mirror images lie there
        _launch_gradient(problem, operands, shifts, workspace, grad, mirrored, half)


def _launch_gradient(
    problem: Problem,
    operands: Operands,
    shifts: Shifts,
    workspace: Workspace,
    grad: Tensor,
    group: Group,
    slot_base: int,
) -> None:
    tiles = problem.tables.gradients[group.gradient_begin : group.gradient_end]
    block, num_warps, num_stages = config.gram_config(problem.arch, problem.precision)
    columns = config.gradient_columns(
        problem.arch, problem.precision, problem.features.shape[1], operands.width
    )
    pair_gradient_kernel[(len(tiles) * (operands.width // columns),)](
        operands,
        shifts,
        problem.rows,
        problem.tables.classes,
        tiles,
        workspace,
        grad,
        group.tiled_class,
        group.row_block,
        group.column_block,
        slot_base,
        problem.grad_scale,
        COSINE=problem.cosine,
        PRECISION=problem.precision,
        BT=TILE,
        BJ=block,
        BN=config.NEAR_COLUMNS,
        BD=columns,
        num_warps=num_warps,
        num_stages=num_stages,
    )
