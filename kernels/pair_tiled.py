"""Gradients of tiled classes: weights in the workspace times operands, group by group.

Every program owns some columns of some rows and takes the weights of its rows in order, so that
nothing is added atomically.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import config
from .maths import difference, load_row, load_rows, multiply
from .operands import Operands, make_operands
from .pair_sweep import sweep_rows
from .pair_weights import Workspace, launch_weights, make_workspace
from .problem import Problem
from .tiles import TILE, Group


@triton.jit
def _add_near(
    grad_ptr,
    near_ptr,
    any_near_ptr,
    first_slot,
    tiles,
    first_c,
    delta,
    scale_ptr,
    x_ptr,
    order_ptr,
    rows,
    m_r,
    scale_r,
    o_d,
    D,
    stride_xn,
    stride_xd,
    grad_scale,
    COSINE: tl.constexpr,
    BT: tl.constexpr,
):
    """Add the weighted differences of near pairs, column by column."""
    o_t = tl.arange(0, BT)
    p_grad = grad_ptr + rows[:, None] * D + o_d[None, :]
    m_grad = m_r[:, None] & (o_d < D)[None, :]
    for i in range(tiles):
        slot = first_slot + i
        if tl.load(any_near_ptr + slot) > 0:
            grad = tl.zeros([BT, o_d.shape[0]], tl.float32)
            x_r = load_rows(x_ptr, rows, o_d, m_r, D, stride_xn, stride_xd)
            for j in range(BT):
                weight = tl.load(near_ptr + (slot * BT + j) * BT + o_t).to(tl.float32)
                if tl.max(weight, 0) > 0.0:
                    column = first_c + i * BT + j
                    scale_c = tl.load(scale_ptr + column)
                    row_c = tl.load(order_ptr + column + delta)
                    x_c = load_row(x_ptr, row_c, o_d, D, stride_xd, stride_xn)
                    grad += weight[:, None] * difference(x_r, x_c, scale_r, scale_c, COSINE)
            grad *= (scale_r * grad_scale)[:, None]
            tl.store(p_grad, tl.load(p_grad, mask=m_grad, other=0.0) + grad, mask=m_grad)


@triton.jit(do_not_specialize=["tiled_class", "row_block", "column_block", "slot_base"])
def pair_gradient_kernel(
    a_ptr,  # [R, width]
    scale_ptr,  # [R]
    centre_ptr,  # [K, D]
    shift_scale_ptr,  # [classes]
    x_ptr,  # [N, D]
    order_ptr,
    classes_ptr,  # [., 4]
    tiles_ptr,  # [tiles, 4]
    far_ptr,
    near_ptr,
    total_ptr,
    rho_ptr,
    any_near_ptr,
    grad_ptr,  # [N, D] float32
    tiled_class,
    row_block,
    column_block,
    slot_base,
    D,
    width,
    stride_xn,
    stride_xd,
    grad_scale,
    COSINE: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BJ: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    """BD columns of the gradient of one row tile; grid: (tiles * width / BD,)."""
    parts = width // BD
    i_tile, i_part = tl.program_id(0) // parts, tl.program_id(0) % parts
    p_tile = tiles_ptr + i_tile * 4
    tiled_class += tl.load(p_tile)
    p_class = classes_ptr + tiled_class * 4
    begin, end, delta = tl.load(p_class), tl.load(p_class + 1), tl.load(p_class + 2)
    first_r = begin + (tl.load(p_tile + 1) + row_block) * BT
    first_c = begin + column_block * BT
    tiles = tl.minimum(tl.load(p_tile + 2), tl.cdiv(end - first_c, BT))
    slot = (tl.load(p_tile + 3) + slot_base).to(tl.int64)
    o_t, o_d = tl.arange(0, BT), i_part * BD + tl.arange(0, BD)
    if first_r < end:
        pull = tl.zeros([BT, BD], tl.float32)
        p_far = far_ptr + slot * BT * BT + o_t[:, None] * BT
        for j in range(0, tiles * BT, BJ):
            o_j = tl.arange(0, BJ)
            o_c = first_c + j + o_j
            far = tl.load(p_far + (j // BT) * (BT * BT) + (j % BT) + o_j[None, :])
            p_c = a_ptr + o_c.to(tl.int64)[:, None] * width + o_d[None, :]
            a_c = tl.load(p_c, mask=(o_c < end)[:, None], other=0.0)
            pull = multiply(far, a_c, pull, PRECISION)
        total, rho = tl.zeros([BT], tl.float32), tl.zeros([BT], tl.float32)
        for i in range(tiles):
            total += tl.load(total_ptr + (slot + i) * BT + o_t)
            if COSINE:
                rho += tl.load(rho_ptr + (slot + i) * BT + o_t)

        o_r = first_r + o_t
        m_r = o_r < end
        p_r = a_ptr + o_r.to(tl.int64)[:, None] * width + o_d[None, :]
        a_r = tl.load(p_r, mask=m_r[:, None], other=0.0).to(tl.float32)
        rows = tl.load(order_ptr + o_r + delta, mask=m_r, other=0)
        scale_r = tl.load(scale_ptr + o_r, mask=m_r, other=0.0)
        own = grad_scale * total
        along = 0.5 * grad_scale * rho
        grad = (own - along)[:, None] * a_r - grad_scale * pull
        if COSINE:
            p_centre = centre_ptr + tl.load(p_class + 3).to(tl.int64) * D
            shift = load_row(p_centre, 0, o_d, D, 1, 0) * tl.load(shift_scale_ptr + tiled_class)
            # u is a + shift, so that the features need not be read again
            grad = scale_r[:, None] * (grad - along[:, None] * shift[None, :])
        p_grad = grad_ptr + rows[:, None] * D + o_d[None, :]
        m_grad = m_r[:, None] & (o_d < D)[None, :]
        # blocks of columns come in launches of their own, in order
        if column_block > 0:
            grad += tl.load(p_grad, mask=m_grad, other=0.0)
        tl.store(p_grad, grad, mask=m_grad)
        tl.debug_barrier()
        for d in range(0, BD, BN):
            _add_near(
                grad_ptr,
                near_ptr,
                any_near_ptr,
                slot,
                tiles,
                first_c,
                delta,
                scale_ptr,
                x_ptr,
                order_ptr,
                rows,
                m_r,
                scale_r,
                i_part * BD + d + tl.arange(0, BN),
                D,
                stride_xn,
                stride_xd,
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
    operands = make_operands(problem, centres)
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
            _launch_gradients(problem, operands, workspace, grad, group)


def partial_size(problem: Problem) -> int:
    """Parts that the loss of tiled classes is left in."""
    if problem.kind == "infonce":
        return len(problem.tables.row_tiles)
    return max((group.weights_end - group.weights_begin for group in problem.groups), default=0)


def _launch_gradients(
    problem: Problem, operands: Operands, workspace: Workspace, grad: Tensor, group: Group
) -> None:
    _launch_gradient(problem, operands, workspace, grad, group, 0)
    if group.row_block != group.column_block:
        mirrored = group._replace(row_block=group.column_block, column_block=group.row_block)
        _launch_gradient(problem, operands, workspace, grad, mirrored, problem.numbers.slots // 2)


def _launch_gradient(
    problem: Problem,
    operands: Operands,
    workspace: Workspace,
    grad: Tensor,
    group: Group,
    slot_base: int,
) -> None:
    x, width = problem.features, operands.a.shape[1]
    tiles = problem.tables.gradients[group.gradient_begin : group.gradient_end]
    block, num_warps, num_stages = config.gram_config(problem.arch, problem.precision)
    columns = config.gradient_columns(problem.arch, problem.precision, x.shape[1], width)
    far, near, total, rho, any_near = workspace
    pair_gradient_kernel[(len(tiles) * (width // columns),)](
        operands.a,
        operands.scale,
        operands.centres,
        operands.shift_scale,
        x,
        problem.order,
        problem.tables.classes,
        tiles,
        far,
        near,
        total,
        rho,
        any_near,
        grad,
        group.tiled_class,
        group.row_block,
        group.column_block,
        slot_base,
        x.shape[1],
        width,
        x.stride(0),
        x.stride(1),
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
