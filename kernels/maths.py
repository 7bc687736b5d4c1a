"""The formulas of a tile of pairs, which the kernels share.

The names are those of README.md: u are the features, divided by their norms for the cosine kinds;
a = u - shift; d2 are the squared distances between rows of a; L is the loss. The weights
W_ij >= 0 are scaled so that dL/d(d2_ij) = grad_scale / 2 * W_ij. A name that ends in _r belongs to
the rows of a tile, one that ends in _c to its columns.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def inverse_norm(square):
    """1 / |x| from |x|^2; 0 for a zero row, NaN for a square that overflows."""
    inverse = tl.where(square == 0.0, 0.0, 1.0 / tl.sqrt_rn(tl.where(square == 0.0, 1.0, square)))
    return tl.where(square == float("inf"), float("nan"), inverse)


@triton.jit
def to_operand(a, PRECISION: tl.constexpr):
    """Round to what the products take. Tensor cores would truncate tf32; this rounds to nearest."""
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
def through_loop(x):
    """Return x unchanged, through a loop of one turn.

    For sm_100 Triton 3.7 chooses the layouts of products by following their results through
    reductions, and fails at a reduction to a scalar unless there is a loop in between.
    """
    y = tl.zeros_like(x)
    for _ in range(tl.num_programs(2)):
        y = x
    return y


@triton.jit
def difference(x_r, x_c, scale_r, scale_c, COSINE: tl.constexpr):
    """u_r - u_c for rows [R, D] and one row [D]; exactly 0 for equal rows, even with fused sums."""
    step = x_r - x_c[None, :]
    if COSINE:
        return scale_r[:, None] * step + (scale_r - scale_c)[:, None] * x_c[None, :]
    else:
        return step


@triton.jit
def similarities(d2, unit_r, unit_c):
    """Cosines from distances of normalised rows; `unit` is their norm: 1, or 0 for a zero row."""
    return 0.5 * (unit_r[:, None] + unit_c[None, :] - d2)


@triton.jit
def closeness(d2, unit_c):
    """A number that orders the pairs of a row as their cosines do, but keeps its digits near 1."""
    return (unit_c[None, :] - 1.0) - d2


@triton.jit
def row_log_sum_exp(logit):
    """Log of the sum of exp over each row; -inf for a row of -inf."""
    most = tl.max(logit, 1)
    most = tl.where(most == -float("inf"), 0.0, most)
    return most + tl.log(tl.sum(tl.exp(logit - most[:, None]), 1))


@triton.jit
def log_add_exp(a, b):
    """log(exp(a) + exp(b)); either may be -inf."""
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
    """Terms of the loss and weights W of a tile, both 0 where d2 = inf.

    The terms of infonce are 0 here, because they belong to rows, not to pairs. `parameter` is
    -1 / (2 sigma^2) for rbf, the margin for hinge and 1 / t for infonce.
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
    """W_ij (q_i - q_j + d2_ij), 0 where W_ij is. Its sum over row i is rho_i, but for a factor."""
    return tl.where(weight > 0.0, weight * (unit_r[:, None] - unit_c[None, :] + d2), 0.0)


@triton.jit
def nan_of(norm):
    """NaN if a squared norm is NaN or near overflow, else 0; added to a loss.

    Clamps and masks would hide a NaN, and d2 <= 2 |a|^2 + 2 |b|^2 = inf stands for no pair.
    """
    return tl.sum(tl.where(norm < 8e37, 0.0, float("nan")))
