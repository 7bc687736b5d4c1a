"""Losses and weights of tiled classes: one program for a tile of pairs and its mirror image.

Weights of near pairs are kept apart: in a product with the operands they would cancel.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import config
from .maths import any_near, nan_of, pair_rho, pair_terms, to_operand
from .operands import Operands
from .pair_sweep import load_units, tile_distances, tile_exact_distances
from .problem import Problem
from .tiles import TILE, Group


class Workspace(NamedTuple):
    """Weights of the tiles of one group; the product with operands takes `far`."""

    far: Tensor  # [slots, row, column]
    near: Tensor  # [slots, column, row]
    total: Tensor  # [slots, row], sums of far
    rho: Tensor  # [slots, row], sums of W_ij (q_i - q_j + d2_ij)
    any_near: Tensor  # [slots] int32


@triton.jit
def _emit(
    d2,
    lse_ptr,
    scale_ptr,
    far_ptr,
    near_ptr,
    total_ptr,
    rho_ptr,
    first_r,
    first_c,
    end,
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
    """Write the weights of columns o_c of a tile; sums by row of terms, far weights and rho."""
    o_t = tl.arange(0, BT)
    lse_r, lse_c = tl.zeros([BT], tl.float32), tl.zeros([d2.shape[1]], tl.float32)
    unit_r, unit_c = lse_r, lse_c
    if KIND == "infonce":
        lse_r = tl.load(lse_ptr + first_r + o_t, mask=first_r + o_t < end, other=0.0)
        lse_c = tl.load(lse_ptr + first_c + o_c, mask=first_c + o_c < end, other=0.0)
        unit_r = load_units(scale_ptr, first_r + o_t, end)
        unit_c = load_units(scale_ptr, first_c + o_c, end)
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
                tl.store(rho_ptr + mirror * BT + o_c, other)
        if NEAR:
            close = tl.where(d2 < 0.0, weight, 0.0).to(near_ptr.dtype.element_ty)
            weight = tl.where(d2 < 0.0, 0.0, weight)
            tl.store(near_ptr + slot * BT * BT + o_mirror, tl.trans(close))
            if slot != mirror:
                tl.store(near_ptr + mirror * BT * BT + o_slot, close)
        far = to_operand(weight, PRECISION)
        total = tl.sum(far.to(tl.float32), 1)
        tl.store(far_ptr + slot * BT * BT + o_slot, far)
        if slot != mirror:
            tl.store(total_ptr + mirror * BT + o_c, tl.sum(far.to(tl.float32), 0))
            tl.store(far_ptr + mirror * BT * BT + o_mirror, tl.trans(far))
    return term, total, rho


@triton.jit
def _clear_near(near_ptr, slot, mirror, o_c, BT: tl.constexpr):
    """Near weights of zero in columns o_c of a tile."""
    o_t = tl.arange(0, BT)
    zeros = tl.zeros([BT, o_c.shape[0]], near_ptr.dtype.element_ty)
    tl.store(near_ptr + slot * BT * BT + o_c[None, :] * BT + o_t[:, None], zeros)
    tl.store(near_ptr + mirror * BT * BT + o_t[:, None] * BT + o_c[None, :], zeros)


@triton.jit(do_not_specialize=["tiled_class", "row_block", "column_block"])
def pair_weights_kernel(
    a_ptr,  # [R, width]
    norm_ptr,  # [R]
    scale_ptr,  # [R]
    lse_ptr,  # [R], of kind infonce
    x_ptr,  # [N, D]
    order_ptr,
    classes_ptr,  # [., 4]
    tiles_ptr,  # [tiles, 8]
    far_ptr,
    near_ptr,
    total_ptr,
    rho_ptr,
    any_near_ptr,
    partial_ptr,  # [tiles], added to
    tiled_class,
    row_block,
    column_block,
    D,
    width,
    stride_xn,
    stride_xd,
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
    """Terms and weights of one tile of the upper triangle; grid: (tiles,)."""
    COSINE: tl.constexpr = KIND == "infonce"
    i_tile = tl.program_id(0).to(tl.int64)
    p_tile = tiles_ptr + i_tile * 8
    p_class = classes_ptr + (tl.load(p_tile) + tiled_class) * 4
    begin, end, delta = tl.load(p_class), tl.load(p_class + 1), tl.load(p_class + 2)
    first_r = begin + (tl.load(p_tile + 1) + row_block) * BT
    first_c = begin + (tl.load(p_tile + 2) + column_block) * BT
    slot, mirror = tl.load(p_tile + 3).to(tl.int64), tl.load(p_tile + 4).to(tl.int64)
    if first_c < end:
        o_t = tl.arange(0, BT)
        term, total = tl.zeros([BT], tl.float32), tl.zeros([BT], tl.float32)
        rho = total
        near_parts = 0  # one bit each
        for first in range(0, BT, BC):
            d2 = tile_distances(
                a_ptr,
                norm_ptr,
                first_r,
                first_c + first,
                end,
                width,
                threshold,
                PRECISION,
                BT,
                BC,
                BD,
            )
            if any_near(d2):
                near_parts |= 1 << (first // BC)
                # over again in narrow parts, because registers hold no more
                for c in range(first, first + BC, BN):
                    part = tile_distances(
                        a_ptr,
                        norm_ptr,
                        first_r,
                        first_c + c,
                        end,
                        width,
                        threshold,
                        PRECISION,
                        BT,
                        BN,
                        BD,
                    )
                    part = tile_exact_distances(
                        part,
                        scale_ptr,
                        x_ptr,
                        order_ptr,
                        first_r,
                        first_c + c,
                        end,
                        delta,
                        D,
                        stride_xn,
                        stride_xd,
                        COSINE,
                        BT,
                        BN,
                    )
                    sums = _emit(
                        part,
                        lse_ptr,
                        scale_ptr,
                        far_ptr,
                        near_ptr,
                        total_ptr,
                        rho_ptr,
                        first_r,
                        first_c,
                        end,
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
                sums = _emit(
                    d2,
                    lse_ptr,
                    scale_ptr,
                    far_ptr,
                    near_ptr,
                    total_ptr,
                    rho_ptr,
                    first_r,
                    first_c,
                    end,
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
            tl.store(total_ptr + slot * BT + o_t, total)
            tl.store(rho_ptr + slot * BT + o_t, rho)
            some_near = tl.minimum(near_parts, 1)
            tl.store(any_near_ptr + slot, some_near)
            tl.store(any_near_ptr + mirror, some_near)
            if BC < BT and near_parts != 0:
                for part in range(0, BT // BC):
                    if (near_parts >> part) & 1 == 0:
                        _clear_near(near_ptr, slot, mirror, part * BC + tl.arange(0, BC), BT)
        if not COSINE:
            norm = tl.load(norm_ptr + first_r + o_t, mask=first_r + o_t < end, other=0.0)
            once = tl.where(first_r == first_c, loss_scale, 2.0 * loss_scale)
            # a workspace smaller than a class makes several tiles meet here, one launch each
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
    """Weights of the tiles of a group; their part of the loss is added to partial, tile by tile.

    Args:
        problem: of any kind but nearest.
        operands: of make_operands.
        lse: [R] float32 of `sweep_rows`, for infonce.
        workspace: written if problem.need_grad.
        partial: [tiles of the largest group] float32, not touched for infonce.
        group: the tiles.
    """
    x = problem.features
    tiles = problem.tables.weights[group.weights_begin : group.weights_end]
    block, num_warps, num_stages = config.gram_config(problem.arch, problem.precision)
    pair_weights_kernel[(len(tiles),)](
        operands.a,
        operands.norm,
        operands.scale,
        lse,
        x,
        problem.order,
        problem.tables.classes,
        tiles,
        *workspace,
        partial,
        group.tiled_class,
        group.row_block,
        group.column_block,
        x.shape[1],
        operands.a.shape[1],
        x.stride(0),
        x.stride(1),
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
    """Memory for the weights of the largest group, or none where no gradient is needed."""
    slots = problem.numbers.slots if problem.need_grad else 0
    far = operands.a.new_empty((slots, TILE, TILE))
    sums = operands.norm.new_empty((2, slots, TILE))
    flags = operands.norm.new_empty(slots, dtype=torch.int32)
    return Workspace(far, torch.empty_like(far), sums[0], sums[1], flags)
