"""Groups of arguments that kernels share, and how kernels read them.

Launchers fill these named tuples with tensors and numbers, and pass them as one argument each.
Triton takes them apart: inside a kernel a tensor is a pointer.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor


class Features(NamedTuple):
    """The features, and the order of their rows: position p is row order[p] of x."""

    x: Tensor  # [N, D] float32, float16 or bfloat16, any strides
    order: Tensor  # [N] int64, row numbers class after class
    columns: int  # D
    stride_row: int
    stride_column: int


class Operands(NamedTuple):
    """What the products take of tiled classes: one operand row for each of their rows.

    Operand rows are numbered as the tables say, the rows of a class one after the other.
    """

    a: Tensor  # [R, width] in the dtype of the products, padded with zeros
    norm: Tensor  # [R] float32, |a|^2 as rounded
    scale: Tensor  # [R] float32, 1 / |x| for the cosine kinds, else 1
    width: int


class Shifts(NamedTuple):
    """What was subtracted: a = x * scale - centre * shift_scale."""

    centres: Tensor  # [K, D] float32
    scale: Tensor  # [tiled classes] float32


class Workspace(NamedTuple):
    """Weights of tiles of pairs, one tile in each slot. Near pairs have theirs in `near` alone."""

    far: Tensor  # [slots, row, column] in the dtype of the products
    near: Tensor  # [slots, column, row] likewise, unset where any_near is 0
    total: Tensor  # [slots, row] float32, sums of far
    rho: Tensor  # [slots, row] float32, sums of W_ij (q_i - q_j + d2_ij)
    any_near: Tensor  # [slots] int32, whether the tile has near pairs


class TilePair(NamedTuple):
    """Inside a kernel: the rows and the columns of a tile of pairs, all of one class."""

    first_r: Any  # operand row of the first row
    first_c: Any  # operand row of the first column
    end: Any  # operand row behind the last of the class
    delta: Any  # position - operand row


@triton.jit
def load_rows(x_ptr, rows, o_d, m_rows, columns, stride_row, stride_column):
    """Rows of a matrix by number, in float32: [rows, columns of the block]."""
    p_x = x_ptr + rows[:, None] * stride_row + o_d.to(tl.int64)[None, :] * stride_column
    return tl.load(p_x, mask=m_rows[:, None] & (o_d < columns)[None, :], other=0.0).to(tl.float32)


@triton.jit
def load_row(x_ptr, row, o_d, columns, stride_row, stride_column):
    """One row of a matrix in float32: [columns of the block]."""
    p_x = x_ptr + row * stride_row + o_d.to(tl.int64) * stride_column
    return tl.load(p_x, mask=o_d < columns, other=0.0).to(tl.float32)


@triton.jit
def feature_rows(features, rows, o_d, m_rows):
    """Rows of the features by number, in float32: [rows, columns of the block]."""
    return load_rows(
        features.x,
        rows,
        o_d,
        m_rows,
        features.columns,
        features.stride_row,
        features.stride_column,
    )


@triton.jit
def feature_row(features, row, o_d):
    """One row of the features in float32: [columns of the block]."""
    return load_row(
        features.x, row, o_d, features.columns, features.stride_row, features.stride_column
    )


@triton.jit
def load_class(classes_ptr, tiled_class):
    """The first operand row of a tiled class, the one behind its last, and `delta`."""
    p_class = classes_ptr + tiled_class * 4
    return tl.load(p_class), tl.load(p_class + 1), tl.load(p_class + 2)


@triton.jit
def load_units(operands, o_r, end):
    """Norms of normalised rows: 1, or 0 for a zero row."""
    return tl.where(tl.load(operands.scale + o_r, mask=o_r < end, other=0.0) == 0.0, 0.0, 1.0)
