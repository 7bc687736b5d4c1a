"""Squared distances of a tile of pairs of a class, from products of rows or from the rows.

Products lose the digits of near pairs, so these are marked first, and computed again from
differences of features where a tile has any.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

from .arguments import feature_row, feature_rows
from .maths import difference, multiply, through_loop


@triton.jit
def mark_distances(gram, norm_r, norm_c, m_pair, threshold):
    """Squared distances of a tile: inf where no pair is, -1 where a pair is near."""
    both = norm_r[:, None] + norm_c[None, :]
    d2 = tl.maximum(both - 2.0 * gram, 0.0)
    return tl.where(m_pair, tl.where(d2 < threshold * both, -1.0, d2), float("inf"))


@triton.jit
def any_near(d2):
    """Whether a tile has a near pair."""
    return tl.min(through_loop(tl.min(d2, 1)), 0) < 0.0


@triton.jit
def exact_distances(
    d2,
    features,
    rows_r,
    m_r,
    rows_c,
    scale_r,
    scale_c,
    COSINE: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
):
    """Replace the mark of each near pair by minus its distance, column by column.

    The minus sign goes on telling the near pairs from the others.
    """
    o_c = tl.arange(0, BC)
    lowest = through_loop(tl.min(d2, 0))
    for j in range(BC):
        m_j = o_c == j
        if tl.min(tl.where(m_j, lowest, 0.0)) < 0.0:
            row = tl.sum(tl.where(m_j, rows_c, 0))
            scale = tl.sum(tl.where(m_j, scale_c, 0.0))
            exact = tl.zeros_like(scale_r)
            for k in range(0, features.columns, BD):
                o_d = k + tl.arange(0, BD)
                x_r = feature_rows(features, rows_r, o_d, m_r)
                x_c = feature_row(features, row, o_d)
                step = difference(x_r, x_c, scale_r, scale, COSINE)
                exact += tl.sum(step * step, 1)
            # never 0, or the sign would be lost
            exact = -tl.maximum(exact, 1e-37)
            d2 = tl.where((d2 < 0.0) & m_j[None, :], exact[:, None], d2)
    return d2


@triton.jit
def tile_distances(
    operands,
    pair,
    threshold,
    PRECISION: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
):
    """Marked distances of BR x BC pairs of a class, from products along steps of BD columns."""
    o_r, o_c = pair.first_r + tl.arange(0, BR), pair.first_c + tl.arange(0, BC)
    m_r, m_c = o_r < pair.end, o_c < pair.end
    p_r = operands.a + o_r.to(tl.int64)[:, None] * operands.width
    p_c = operands.a + o_c.to(tl.int64)[:, None] * operands.width
    gram = tl.zeros([BR, BC], tl.float32)
    for k in range(0, operands.width, BD):
        o_d = k + tl.arange(0, BD)
        a_r = tl.load(p_r + o_d[None, :], mask=m_r[:, None], other=0.0)
        a_c = tl.load(p_c + o_d[None, :], mask=m_c[:, None], other=0.0)
        gram = multiply(a_r, tl.trans(a_c), gram, PRECISION)
    norm_r = tl.load(operands.norm + o_r, mask=m_r, other=0.0)
    norm_c = tl.load(operands.norm + o_c, mask=m_c, other=0.0)
    m_pair = m_r[:, None] & m_c[None, :] & (o_r[:, None] != o_c[None, :])
    return mark_distances(gram, norm_r, norm_c, m_pair, threshold)


@triton.jit
def near_tile_distances(
    operands,
    features,
    pair,
    threshold,
    COSINE: tl.constexpr,
    PRECISION: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
):
    """Distances of BR x BC pairs of a class, with the exact ones of near pairs negated."""
    d2 = tile_distances(operands, pair, threshold, PRECISION, BR, BC, BD)
    o_r, o_c = pair.first_r + tl.arange(0, BR), pair.first_c + tl.arange(0, BC)
    m_r, m_c = o_r < pair.end, o_c < pair.end
    return exact_distances(
        d2,
        features,
        tl.load(features.order + o_r + pair.delta, mask=m_r, other=0),
        m_r,
        tl.load(features.order + o_c + pair.delta, mask=m_c, other=0),
        tl.load(operands.scale + o_r, mask=m_r, other=0.0),
        tl.load(operands.scale + o_c, mask=m_c, other=0.0),
        COSINE,
        BC,
        32,
    )
