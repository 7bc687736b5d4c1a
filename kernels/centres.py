"""The mean of the rows of each class: one read of the features, summed in a fixed order."""

# mypy: allow-untyped-defs

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import config
from .arguments import Features, feature_rows, load_rows
from .problem import read_tables
from .tiles import unpack


@triton.jit
def class_sums_kernel(
    features,  # Features
    chunks_ptr,  # [chunks, 4]
    centre_ptr,  # [K, D] float32
    partial_ptr,  # [., D] float32
    BR: tl.constexpr,
    BD: tl.constexpr,
):
    """The mean of a class that is one chunk, or the sum of one of several chunks of a class.

    Grid: (chunks, D / BD). Row `program_id(0)` of the table of chunks names the positions, the
    class and the row of partial_ptr for the sum, -1 where the chunk is the whole class. A program
    owns BD columns of its chunk, which it reads BR rows at a time. It writes them to the row of the
    class in centre_ptr, or to that row of partial_ptr.
    """
    D = features.columns
    p_chunk = chunks_ptr + tl.program_id(0).to(tl.int64) * 4
    begin, end = tl.load(p_chunk), tl.load(p_chunk + 1)
    segment, target = tl.load(p_chunk + 2).to(tl.int64), tl.load(p_chunk + 3).to(tl.int64)
    o_d = tl.program_id(1) * BD + tl.arange(0, BD)
    total = tl.zeros([BR, BD], tl.float32)
    for p in range(begin, end, BR):
        o_p = p + tl.arange(0, BR)
        rows = tl.load(features.order + o_p, mask=o_p < end, other=0)
        total += feature_rows(features, rows, o_d, o_p < end)
    total = tl.sum(total, 0)
    if target < 0:
        mean = total / tl.maximum(end - begin, 1).to(tl.float32)
        tl.store(centre_ptr + segment * D + o_d, mean, mask=o_d < D)
    else:
        tl.store(partial_ptr + target * D + o_d, total, mask=o_d < D)


@triton.jit
def merge_sums_kernel(
    merges_ptr,  # [merges, 4]
    partial_ptr,  # [., D] float32
    centre_ptr,  # [K, D] float32
    D,
    BR: tl.constexpr,
    BD: tl.constexpr,
):
    """The mean of a class of several chunks, from their sums.

    Grid: (merges, D / BD). Row `program_id(0)` of the table of merges names the class, the first of
    its rows in partial_ptr, their number, and the number of rows of the class. A program owns BD
    columns of the class in centre_ptr and writes them.
    """
    p_merge = merges_ptr + tl.program_id(0).to(tl.int64) * 4
    segment, first = tl.load(p_merge).to(tl.int64), tl.load(p_merge + 1).to(tl.int64)
    count, size = tl.load(p_merge + 2), tl.load(p_merge + 3)
    o_d = tl.program_id(1) * BD + tl.arange(0, BD)
    total = tl.zeros([BR, BD], tl.float32)
    for p in range(0, count, BR):
        o_p = p + tl.arange(0, BR)
        total += load_rows(partial_ptr, first + o_p, o_d, o_p < count, D, D, 1)
    mean = tl.sum(total, 0) / size.to(tl.float32)
    tl.store(centre_ptr + segment * D + o_d, mean, mask=o_d < D)


def class_centres(features: Tensor, order: Tensor, offsets: Tensor, tables: list[Tensor]) -> Tensor:
    """Mean of `features[order[offsets[c] : offsets[c + 1]]]` for every segment c.

    Args:
        features: [N, D] float32, float16 or bfloat16, any strides.
        order: [N] int64.
        offsets: [K+1] int64, non-decreasing, from 0 to at most N.
        tables: of `tile_tables`; if empty they are made here, which waits for the device.

    Returns:
        [K, D] float32, zeros for an empty segment; the same bits every time.

    Raises:
        RuntimeError: tables is empty while a CUDA graph is captured.
        ValueError: the dtype is another, or the tables were made from other offsets.
    """
    config.check(features, "ieee")
    N, D = features.shape
    numbers, _, parts = unpack(read_tables(offsets, N, tables))
    centres = features.new_empty((numbers.num_classes, D), dtype=torch.float32)
    if centres.numel() == 0:
        return centres
    several = int(parts.merges.shape[0])
    summed = len(parts.chunks) - (numbers.num_classes - several)
    partial = features.new_empty((summed, D), dtype=torch.float32)
    block = config.column_block(D, 128)
    with device_guard(features):
        class_sums_kernel[(len(parts.chunks), triton.cdiv(D, block))](
            Features(features, order.contiguous(), D, features.stride(0), features.stride(1)),
            parts.chunks,
            centres,
            partial,
            BR=32,
            BD=block,
            num_warps=4,
        )
        if several:
            merge_sums_kernel[(several, triton.cdiv(D, block))](
                parts.merges,
                partial,
                centres,
                D,
                BR=32,
                BD=block,
                num_warps=4,
            )
    return centres


def device_guard(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Make the tensor's device the current one, since kernels are launched there."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
