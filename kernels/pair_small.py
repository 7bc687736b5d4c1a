"""Pair losses of classes of at most 64 rows: loss and gradient in one launch."""

# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import config
from .arguments import feature_row, feature_rows, load_rows
from .distances import any_near, exact_distances, mark_distances
from .maths import (
    closeness,
    difference,
    inverse_norm,
    multiply,
    nan_of,
    pair_rho,
    pair_terms,
    row_best,
    row_log_sum_exp,
    similarities,
    to_operand,
)
from .problem import Problem
from .tiles import PACK


@triton.jit
def _row_inverse_norms(x_ptr, rows, m_rows, columns, stride_row, stride_column, BD: tl.constexpr):
    """1 / |x| of rows of a matrix by number, 0 for a zero row."""
    square = tl.zeros([rows.shape[0]], tl.float32)
    for k in range(0, columns, BD):
        o_d = k + tl.arange(0, BD)
        x = load_rows(x_ptr, rows, o_d, m_rows, columns, stride_row, stride_column)
        square += tl.sum(x * x, 1)
    return inverse_norm(square)


@triton.jit
def pair_small_kernel(
    features,  # Features
    offsets_ptr,  # [K + 1]
    shift_ptr,  # [K, D] class centres, or the features if FIRST_ROW
    stride_sn,
    stride_sd,
    positions_ptr,  # [tiles, BT]
    segments_ptr,  # [tiles, BT]
    partial_ptr,  # [tiles], of all kinds but nearest
    grad_ptr,  # [N, D] float32, written if NEED_GRAD, not of kind nearest
    neighbour_ptr,  # [N], of kind nearest
    parameter,
    threshold,
    loss_scale,
    grad_scale,
    KIND: tl.constexpr,
    FIRST_ROW: tl.constexpr,
    PRECISION: tl.constexpr,
    NEED_GRAD: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
):
    """Loss and gradient of a tile of whole classes, or the nearest neighbours of its rows.

    Grid: (tiles,). Row `program_id(0)` of the tables of positions and segments names the rows of
    the tile and their classes; a tile holds at most BT rows, and pairs of rows of different classes
    in it do not count. The program owns these rows. It goes through D once, in steps of BD columns,
    for the products of the rows, turns these into weights in registers, and goes through D again
    for the gradient. It writes the sum of its terms to partial_ptr[program_id(0)] and its rows of
    grad_ptr; for kind nearest it writes only neighbour_ptr, by position.

    From every row the centre of its class is subtracted, or, if FIRST_ROW, the first row of it.
    Distances and gradients of near pairs are computed from the features, one column of the tile at
    a time.
    """
    COSINE: tl.constexpr = KIND == "infonce" or KIND == "nearest"
    D = features.columns
    i_tile = tl.program_id(0).to(tl.int64)
    o_t = tl.arange(0, BT)
    position = tl.load(positions_ptr + i_tile * BT + o_t)
    segment = tl.load(segments_ptr + i_tile * BT + o_t)
    m_row = position >= 0
    rows = tl.load(features.order + position, mask=m_row, other=0)
    shift_rows = segment.to(tl.int64)
    if FIRST_ROW:
        first = tl.load(offsets_ptr + segment, mask=m_row, other=0)
        shift_rows = tl.load(features.order + first, mask=m_row, other=0)
    scale = tl.full([BT], 1.0, tl.float32)
    shift_scale = scale
    if COSINE:
        scale = _row_inverse_norms(
            features.x, rows, m_row, D, features.stride_row, features.stride_column, BD
        )
        shift_scale = _row_inverse_norms(shift_ptr, shift_rows, m_row, D, stride_sn, stride_sd, BD)

    gram = tl.zeros([BT, BT], tl.float32)
    norm = tl.zeros([BT], tl.float32)
    for k in range(0, D, BD):
        o_d = k + tl.arange(0, BD)
        x = feature_rows(features, rows, o_d, m_row)
        shift = load_rows(shift_ptr, shift_rows, o_d, m_row, D, stride_sn, stride_sd)
        a = to_operand(x * scale[:, None] - shift * shift_scale[:, None], PRECISION)
        gram = multiply(a, tl.trans(a), gram, PRECISION)
        norm += tl.sum(a.to(tl.float32) * a.to(tl.float32), 1)

    m_pair = (segment[:, None] == segment[None, :]) & m_row[:, None]
    m_pair = m_pair & (o_t[:, None] != o_t[None, :])
    partners = tl.sum(m_pair.to(tl.int32), 1)
    d2 = mark_distances(gram, norm, norm, m_pair, threshold)
    some_near = any_near(d2)
    if some_near:
        d2 = exact_distances(d2, features, rows, m_row, rows, scale, scale, COSINE, BT, BD)

    unit = tl.where(scale == 0.0, 0.0, 1.0)
    if KIND == "nearest":
        _best, at = row_best(closeness(tl.abs(d2), unit), o_t)
        # positions of a class are consecutive in a tile
        found = tl.where((partners > 0) & (at < BT), position + at - o_t, -1)
        tl.store(neighbour_ptr + position, found, mask=m_row)
    else:
        lse = tl.zeros([BT], tl.float32)
        loss = nan_of(norm)
        if KIND == "infonce":
            lse = row_log_sum_exp(similarities(tl.abs(d2), unit, unit) * parameter)
            lse = tl.where(partners > 0, lse, 0.0)
            loss += tl.sum(lse - tl.log(tl.maximum(partners, 1).to(tl.float32)))
        value, weight = pair_terms(tl.abs(d2), lse, lse, unit, unit, parameter, KIND)
        loss += tl.sum(tl.sum(value, 1), 0)
        tl.store(partial_ptr + i_tile, loss * loss_scale)
        if NEED_GRAD:
            rho = tl.sum(pair_rho(tl.abs(d2), weight, unit, unit), 1) * 0.5 * grad_scale
            far = to_operand(tl.where(d2 < 0.0, 0.0, weight), PRECISION)
            close = tl.where(d2 < 0.0, weight, 0.0)
            total = tl.sum(far.to(tl.float32), 1)
            for k in range(0, D, BD):
                o_d = k + tl.arange(0, BD)
                x = feature_rows(features, rows, o_d, m_row)
                shift = load_rows(shift_ptr, shift_rows, o_d, m_row, D, stride_sn, stride_sd)
                a = to_operand(x * scale[:, None] - shift * shift_scale[:, None], PRECISION)
                pull = multiply(far, a, tl.zeros([BT, BD], tl.float32), PRECISION)
                grad = total[:, None] * a.to(tl.float32) - pull
                if some_near:
                    for j in range(BT):
                        m_j = o_t == j
                        close_j = tl.sum(tl.where(m_j[None, :], close, 0.0), 1)
                        if tl.max(close_j, 0) > 0.0:
                            row = tl.sum(tl.where(m_j, rows, 0))
                            scale_j = tl.sum(tl.where(m_j, scale, 0.0))
                            x_j = feature_row(features, row, o_d)
                            grad += close_j[:, None] * difference(x, x_j, scale, scale_j, COSINE)
                grad = grad * grad_scale
                if COSINE:
                    grad = scale[:, None] * (grad - (rho * scale)[:, None] * x)
                p_grad = grad_ptr + rows[:, None] * D + o_d[None, :]
                tl.store(p_grad, grad, mask=m_row[:, None] & (o_d < D)[None, :])


def launch_small(
    problem: Problem, centres: Tensor | None, partial: Tensor, grad: Tensor, neighbour: Tensor
) -> None:
    """Write parts of the loss and the gradient rows of small classes, or their nearest neighbours.

    Args:
        problem: what to compute.
        centres: [K, D] float32; without them the first row of each class is subtracted.
        partial: [tiles] float32, written for all kinds but nearest.
        grad: [N, D] float32, rows of small classes written if problem.need_grad.
        neighbour: [N] int32, the position of each position's neighbour, for kind nearest.
    """
    x, positions = problem.features, problem.tables.positions
    if len(positions) == 0:
        return
    block, num_warps, num_stages = config.small_config(problem.precision, x.shape[1])
    shift = x if centres is None else centres
    pair_small_kernel[(len(positions),)](
        problem.rows,
        problem.offsets,
        shift,
        shift.stride(0),
        shift.stride(1),
        positions,
        problem.tables.segments,
        partial,
        grad,
        neighbour,
        problem.kernel_parameter,
        config.NEAR[problem.precision],
        problem.loss_scale,
        problem.grad_scale,
        KIND=problem.kind,
        FIRST_ROW=centres is None,
        PRECISION=problem.precision,
        NEED_GRAD=problem.need_grad,
        BT=PACK,
        BD=block,
        num_warps=num_warps,
        num_stages=num_stages,
    )
