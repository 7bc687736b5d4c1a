"""The formulas of a tile of pairs, shared by the kernels.

With a = u - shift, u the features (divided by their norms for the cosine kinds), d2 the squared
distances of the rows of a, and L the loss, the weights here are W with
dL/d(d2_ij) = grad_scale / 2 * W_ij >= 0 in W; README.md has the formulas.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(x_ptr, rows, o_d, m_rows, columns, stride_row, stride_column):
    """Rows of a matrix by number, in float32: [rows, columns of the block]."""
    p_x = x_ptr + rows[:, None] * stride_row + o_d.to(tl.int64)[None, :] * stride_column
    return tl.load(p_x, mask=m_rows[:, None] & (o_d < columns)[None, :], other=0.0).to(tl.float32)


@triton.jit
def inverse_norm(square):
    """1 / |x| from |x|^2, and 0 for a zero row."""
    return tl.where(square == 0.0, 0.0, 1.0 / tl.sqrt_rn(tl.where(square == 0.0, 1.0, square)))


@triton.jit
def to_operand(a, PRECISION: tl.constexpr):
    """Round to what the products take; tensor cores would cut tf32 off instead of rounding it."""
    if PRECISION == "bf16":
        return a.to(tl.bfloat16)
    elif PRECISION == "tf32":
        bits = (a.to(tl.int32, bitcast=True) + 0x1000) & -0x2000
        # the addition can turn a NaN into a number
        return tl.where(a == a, bits.to(tl.float32, bitcast=True), a)
    else:
        return a


@triton.jit
def multiply(a, b, total, PRECISION: tl.constexpr):
    """total + a @ b in float32."""
    if PRECISION == "bf16":
        return tl.dot(a, b, total)
    else:
        return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def mark_distances(gram, norm_r, norm_c, m_pair, threshold):
    """Squared distances of a tile: inf where no pair is, negative where near and yet unknown."""
    both = norm_r[:, None] + norm_c[None, :]
    d2 = tl.maximum(both - 2.0 * gram, 0.0)
    return tl.where(m_pair, tl.where(d2 < threshold * both, -1.0, d2), float("inf"))


@triton.jit
def through_loop(x):
    """x as it is, carried by a loop of one turn.

    For sm_100 Triton 3.7 picks layouts of products by following them through reductions, and fails
    on a reduction to a scalar unless a loop is in between.
    """
    y = tl.zeros_like(x)
    for _ in range(tl.num_programs(2)):
        y = x
    return y


@triton.jit
def any_near(d2):
    """Whether a tile has a near pair."""
    return tl.min(through_loop(tl.min(d2, 1)), 0) < 0.0


@triton.jit
def difference(x_r, x_c, scale_r, scale_c, COSINE: tl.constexpr):
    """u_r - u_c for rows [R, D] and one row [D], exactly 0 for equal rows even when fused."""
    step = x_r - x_c[None, :]
    if COSINE:
        return scale_r[:, None] * step + (scale_r - scale_c)[:, None] * x_c[None, :]
    else:
        return step


@triton.jit
def exact_distances(
    d2,
    x_ptr,
    rows_r,
    m_r,
    rows_c,
    scale_r,
    scale_c,
    D,
    stride_xn,
    stride_xd,
    COSINE: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
):
    """Put minus the distance of the features themselves where d2 is negative, column by column."""
    o_c = tl.arange(0, BC)
    lowest = through_loop(tl.min(d2, 0))
    for j in range(BC):
        m_j = o_c == j
        if tl.min(tl.where(m_j, lowest, 0.0)) < 0.0:
            row = tl.sum(tl.where(m_j, rows_c, 0))
            scale = tl.sum(tl.where(m_j, scale_c, 0.0))
            exact = tl.zeros_like(scale_r)
            for k in range(0, D, BD):
                o_d = k + tl.arange(0, BD)
                x_r = load_rows(x_ptr, rows_r, o_d, m_r, D, stride_xn, stride_xd)
                x_c = load_row(x_ptr, row, o_d, D, stride_xd, stride_xn)
                step = difference(x_r, x_c, scale_r, scale, COSINE)
                exact += tl.sum(step * step, 1)
            # never 0, or the sign would be lost
            exact = -tl.maximum(exact, 1e-37)
            d2 = tl.where((d2 < 0.0) & m_j[None, :], exact[:, None], d2)
    return d2


@triton.jit
def load_row(x_ptr, row, o_d, columns, stride_column, stride_row):
    """One row of a matrix in float32: [columns of the block]."""
    p_x = x_ptr + row * stride_row + o_d.to(tl.int64) * stride_column
    return tl.load(p_x, mask=o_d < columns, other=0.0).to(tl.float32)


@triton.jit
def similarities(d2, unit_r, unit_c):
    """Cosines from distances of rows of norm 1, or 0 for zero rows."""
    return 0.5 * (unit_r[:, None] + unit_c[None, :] - d2)


@triton.jit
def closeness(d2, unit_c):
    """A number that orders a row's pairs as their cosines do, and tells cosines near 1 apart."""
    return (unit_c[None, :] - 1.0) - d2


@triton.jit
def row_log_sum_exp(logit):
    """Log of the sum of exp over each row, -inf for a row of -inf."""
    most = tl.max(logit, 1)
    most = tl.where(most == -float("inf"), 0.0, most)
    return most + tl.log(tl.sum(tl.exp(logit - most[:, None]), 1))


@triton.jit
def log_add_exp(a, b):
    """log(exp(a) + exp(b)), of -inf too."""
    most = tl.maximum(a, b)
    most = tl.where(most == -float("inf"), 0.0, most)
    return most + tl.log(tl.exp(a - most) + tl.exp(b - most))


@triton.jit
def row_best(value, o_c):
    """Largest value of each row and the lowest o_c that has it."""
    best = tl.max(value, 1)
    return best, tl.min(tl.where(value == best[:, None], o_c[None, :], 2147483647), 1)


@triton.jit
def pair_terms(d2, lse_r, lse_c, unit_r, unit_c, parameter, KIND: tl.constexpr):
    """Terms of the loss (0 for infonce, whose terms are by row) and weights W, both 0 at d2 = inf.

    parameter is -1 / (2 sigma^2) for rbf, the margin for hinge and 1 / t for infonce.
    """
    if KIND == "rbf":
        value = tl.exp(d2 * parameter)
        return value, value
    elif KIND == "hinge":
        distance = tl.sqrt(d2)
        gap = tl.maximum(parameter - distance, 0.0)
        # at distance 0 there is no direction to move in
        return gap * gap, tl.where(distance > 0.0, gap / distance, 0.0)
    else:
        logit = similarities(d2, unit_r, unit_c) * parameter
        weight = tl.exp(logit - lse_r[:, None]) + tl.exp(logit - lse_c[None, :])
        return tl.zeros_like(d2), weight


@triton.jit
def pair_rho(d2, weight, unit_r, unit_c):
    """W_ij (q_i - q_j + d2_ij), of which the rows sum to rho_i; 0 where W is."""
    return tl.where(weight > 0.0, weight * (unit_r[:, None] - unit_c[None, :] + d2), 0.0)


@triton.jit
def nan_of(norm):
    """NaN if any norm is NaN, else 0: clamps and masks would hide it."""
    return tl.sum(tl.where(norm == norm, 0.0, float("nan")))
