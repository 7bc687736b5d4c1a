"""Losses and weights of tiled classes: a program computes a tile of pairs and its mirror image.

The weights of near pairs are kept apart, in a matrix of their own: in a product with the operands
they would cancel.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import config
from .arguments import Operands, TilePair, Workspace, load_class, load_units
from .distances import any_near, near_tile_distances, tile_distances
from .maths import nan_of, pair_rho, pair_terms, to_operand
from .problem import Problem
from .tiles import TILE, Group


@triton.jit
def _write_weights(
    d2,
    operands,
    lse_ptr,
    workspace,
    pair,
    slot,
    mirror,
    o_c,
    parameter,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    NEED_GRAD: tl.constexpr,
    NEAR: tl.constexpr,
    BT: tl.constexpr,
):
    """Write the weights of the columns o_c of a tile to its slot and to that of its mirror image.

    NEAR says whether the columns may have near pairs, whose distances are then negative. Returns
    three sums over these columns for each row: of the terms, of the far weights and of rho. The
    caller adds up those of all columns. The sums of the mirror image are complete, because its rows
    are the columns here, and are written.
    """
    o_t = tl.arange(0, BT)
    lse_r, lse_c = tl.zeros([BT], tl.float32), tl.zeros([d2.shape[1]], tl.float32)
    unit_r, unit_c = lse_r, lse_c
    if KIND == "infonce":
        lse_r = tl.load(lse_ptr + pair.first_r + o_t, mask=pair.first_r + o_t < pair.end, other=0.0)
        lse_c = tl.load(lse_ptr + pair.first_c + o_c, mask=pair.first_c + o_c < pair.end, other=0.0)
        unit_r = load_units(operands, pair.first_r + o_t, pair.end)
        unit_c = load_units(operands, pair.first_c + o_c, pair.end)
    distance = tl.abs(d2) if NEAR else d2
    value, weight = pair_terms(distance, lse_r, lse_c, unit_r, unit_c, parameter, KIND)
    term, total, rho = tl.sum(value, 1), tl.zeros([BT], tl.float32), tl.zeros([BT], tl.float32)
    if NEED_GRAD:
        o_slot = o_t[:, None] * BT + o_c[None, :]
        o_mirror = o_c[:, None] * BT + o_t[None, :]
        if KIND == "infonce":
            rho = tl.sum(pair_rho(distance, weight, unit_r, unit_c), 1)
            if slot != mirror:
                other = tl.sum(pair_rho(distance, weight, -unit_r, -unit_c), 0)
                tl.store(workspace.rho + mirror * BT + o_c, other)
        if NEAR:
            close = tl.where(d2 < 0.0, weight, 0.0).to(workspace.near.dtype.element_ty)
            weight = tl.where(d2 < 0.0, 0.0, weight)
            tl.store(workspace.near + slot * BT * BT + o_mirror, tl.trans(close))
            if slot != mirror:
                tl.store(workspace.near + mirror * BT * BT + o_slot, close)
        far = to_operand(weight, PRECISION)
        total = tl.sum(far.to(tl.float32), 1)
        tl.store(workspace.far + slot * BT * BT + o_slot, far)
        if slot != mirror:
            tl.store(workspace.total + mirror * BT + o_c, tl.sum(far.to(tl.float32), 0))
            tl.store(workspace.far + mirror * BT * BT + o_mirror, tl.trans(far))
    return term, total, rho


@triton.jit
def _clear_near(near_ptr, slot, mirror, o_c, BT: tl.constexpr):
    """Set the near weights of the columns o_c of a tile, and of its mirror image, to zero."""
    o_t = tl.arange(0, BT)
    zeros = tl.zeros([BT, o_c.shape[0]], near_ptr.dtype.element_ty)
    tl.store(near_ptr + slot * BT * BT + o_c[None, :] * BT + o_t[:, None], zeros)
    tl.store(near_ptr + mirror * BT * BT + o_t[:, None] * BT + o_c[None, :], zeros)


@triton.jit(do_not_specialize=["tiled_class", "row_block", "column_block"])
def pair_weights_kernel(
    operands,  # Operands
    lse_ptr,  # [R], of kind infonce
    features,  # Features
    classes_ptr,  # [tiled classes, 4]
    tiles_ptr,  # [tiles, 8]
    workspace,  # Workspace, written if NEED_GRAD
    partial_ptr,  # [tiles], added to; not touched for kind infonce
    tiled_class,
    row_block,
    column_block,
    parameter,
    threshold,
    loss_scale,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    NEED_GRAD: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    """Loss terms and weights of one tile of BT x BT pairs, which serves its mirror image as well.

    Grid: (tiles,). Row `program_id(0)` of the table of tiles names the class, the tile of rows, the
    tile of columns (on or above the diagonal), and two slots of the workspace: `slot` for the tile,
    and `mirror` for its mirror image, where rows and columns change places. On the diagonal the two
    are equal. A class too large for the workspace has its table rows used once for each pair of its
    blocks; `tiled_class`, `row_block` and `column_block` are then added to what the table says.
    `delta`, of the table of classes, turns an operand row into a position.

    The program owns both slots, of which it writes every entry but the near weights of a tile
    without near pairs, and partial_ptr[program_id(0)], to which it adds the sum of its terms (twice
    that, for the mirror image, off the diagonal). A tile beyond the end of its class is skipped.

    Distances come from products along steps of BD columns of the operands. The tile is formed in
    halves or as a whole: BC columns at a time, as registers allow. Where such a part has near pairs
    it is computed a second time, BN columns at a time, because exact distances take registers.
    """
    COSINE: tl.constexpr = KIND == "infonce"
    i_tile = tl.program_id(0).to(tl.int64)
    p_tile = tiles_ptr + i_tile * 8
    begin, end, delta = load_class(classes_ptr, tl.load(p_tile) + tiled_class)
    first_r = begin + (tl.load(p_tile + 1) + row_block) * BT
    first_c = begin + (tl.load(p_tile + 2) + column_block) * BT
    slot, mirror = tl.load(p_tile + 3).to(tl.int64), tl.load(p_tile + 4).to(tl.int64)
    if first_c < end:
        pair = TilePair(first_r, first_c, end, delta)
        o_t = tl.arange(0, BT)
        term, total = tl.zeros([BT], tl.float32), tl.zeros([BT], tl.float32)
        rho = total
        near_parts = 0  # one bit for each part of BC columns
        for first in range(0, BT, BC):
            wide = TilePair(first_r, first_c + first, end, delta)
            d2 = tile_distances(operands, wide, threshold, PRECISION, BT, BC, BD)
            if any_near(d2):
                near_parts |= 1 << (first // BC)
                for c in range(first, first + BC, BN):
                    narrow = TilePair(first_r, first_c + c, end, delta)
                    part = near_tile_distances(
                        operands, features, narrow, threshold, COSINE, PRECISION, BT, BN, BD
                    )
                    sums = _write_weights(
                        part,
                        operands,
                        lse_ptr,
                        workspace,
                        pair,
                        slot,
                        mirror,
                        c + tl.arange(0, BN),
                        parameter,
                        KIND,
                        PRECISION,
                        NEED_GRAD,
                        True,
                        BT,
                    )
                    term, total, rho = term + sums[0], total + sums[1], rho + sums[2]
            else:
                sums = _write_weights(
                    d2,
                    operands,
                    lse_ptr,
                    workspace,
                    pair,
                    slot,
                    mirror,
                    first + tl.arange(0, BC),
                    parameter,
                    KIND,
                    PRECISION,
                    NEED_GRAD,
                    False,
                    BT,
                )
                term, total, rho = term + sums[0], total + sums[1], rho + sums[2]
        if NEED_GRAD:
            tl.store(workspace.total + slot * BT + o_t, total)
            tl.store(workspace.rho + slot * BT + o_t, rho)
            some_near = tl.minimum(near_parts, 1)
            tl.store(workspace.any_near + slot, some_near)
            tl.store(workspace.any_near + mirror, some_near)
            if BC < BT and near_parts != 0:
                for part in range(0, BT // BC):
                    if (near_parts >> part) & 1 == 0:
                        o_c = part * BC + tl.arange(0, BC)
                        _clear_near(workspace.near, slot, mirror, o_c, BT)
        if not COSINE:
            norm = tl.load(operands.norm + first_r + o_t, mask=first_r + o_t < end, other=0.0)
            once = tl.where(first_r == first_c, loss_scale, 2.0 * loss_scale)
            # for a class larger than the workspace, several launches add to the same entry
            loss = tl.load(partial_ptr + i_tile) + tl.sum(term) * once + nan_of(norm)
            tl.store(partial_ptr + i_tile, loss)


def launch_weights(
    problem: Problem,
    operands: Operands,
    lse: Tensor,
    workspace: Workspace,
    partial: Tensor,
    group: Group,
) -> None:
    """Compute the weights of the tiles of a group, and add their terms to partial, tile by tile.

    Args:
        problem: of any kind but nearest.
        operands: of make_operands.
        lse: [R] float32 of `sweep_rows`, for infonce.
        workspace: written if problem.need_grad.
        partial: [tiles of the largest group] float32, not touched for infonce.
        group: the tiles.
    """
    tiles = problem.tables.weights[group.weights_begin : group.weights_end]
    block, num_warps, num_stages = config.gram_config(problem.arch, problem.precision)
    pair_weights_kernel[(len(tiles),)](
        operands,
        lse,
        problem.rows,
        problem.tables.classes,
        tiles,
        workspace,
        partial,
        group.tiled_class,
        group.row_block,
        group.column_block,
        problem.kernel_parameter,
        config.NEAR[problem.precision],
        problem.loss_scale,
        KIND=problem.kind,
        PRECISION=problem.precision,
        NEED_GRAD=problem.need_grad,
        BT=TILE,
        BC=config.weights_columns(problem.arch, TILE),
        BN=config.NEAR_COLUMNS,
        BD=block,
        num_warps=num_warps,
        num_stages=num_stages,
    )


def make_workspace(problem: Problem, operands: Operands) -> Workspace:
    """Memory for the weights of the largest group; empty where no gradient is needed."""
    slots = problem.numbers.slots if problem.need_grad else 0
    far = operands.a.new_empty((slots, TILE, TILE))
    sums = operands.norm.new_empty((2, slots, TILE))
    flags = operands.norm.new_empty(slots, dtype=torch.int32)
    return Workspace(far, torch.empty_like(far), sums[0], sums[1], flags)
