"""Block sizes, warps and stages of every kernel, chosen by rules so that runs repeat exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .launch import interpreting

PRECISIONS = ("bf16", "tf32", "tf32x3", "ieee")
# pairs with d2 below this share of |a_i|^2 + |a_j|^2 are near; README.md has the errors of others
NEAR = {"bf16": 1e-2, "tf32": 3e-3, "tf32x3": 1e-3, "ieee": 1e-3}
# columns of a step of the products that leave registers for the rest of a kernel
BLOCK = {"bf16": 64, "tf32": 32, "tf32x3": 16, "ieee": 16}
# columns of the narrow tiles in which near pairs are computed
NEAR_COLUMNS = 32
# the width of operands is a multiple of this, so that no kernel masks their columns
WIDTH_STEP = 64


class Config(NamedTuple):
    """Columns of a step along D (in the gradient kernel: along the columns of W), warps, stages."""

    block: int
    num_warps: int
    num_stages: int


# in the interpreter an operation takes the same time for 16 columns as for 64
INTERPRETED = Config(64, 1, 1)


def device_arch(device: torch.device) -> int:
    """Compute capability times ten; on the CPU, where it does not matter, 90."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def effective_precision(precision: str) -> str:
    """The precision to run at. The interpreter multiplies bf16 wrongly, so it gets ieee instead."""
    return "ieee" if precision == "bf16" and interpreting() else precision


def operand_dtype(precision: str) -> torch.dtype:
    """The dtype in which operands of the products are stored."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def small_config(precision: str, columns: int) -> Config:
    """The config for tiles of packed classes."""
    if interpreting():
        return INTERPRETED
    block = BLOCK[precision] if _aligned(columns) else min(BLOCK[precision], 32)
    return Config(block, 8, 2 if precision in ("bf16", "ieee") else 3)


def gram_config(arch: int, precision: str) -> Config:
    """The config for products of two tiles of operand rows, and of weights with operand rows."""
    if interpreting():
        return INTERPRETED
    few_registers = precision == "ieee" or (precision == "tf32x3" and arch < 90)
    return Config(BLOCK[precision], 8, 2 if few_registers or _small_shared_memory(arch) else 3)


def weights_columns(arch: int, tile: int) -> int:
    """Columns of a tile whose weights are computed together: half of them on Blackwell."""
    return tile // 2 if arch >= 100 else tile


def gradient_columns(arch: int, precision: str, columns: int, width: int) -> int:
    """Columns of the gradient that one program owns."""
    too_many_registers = arch >= 100 and precision == "tf32"
    wide = width % 128 == 0 and _aligned(columns) and not too_many_registers
    return 128 if wide else 64


def column_block(columns: int, most: int) -> int:
    """The power of two of at least 16 that covers the columns, or the most allowed."""
    return min(most, max(16, 1 << (columns - 1).bit_length()))


def _aligned(columns: int) -> bool:
    # otherwise every number is loaded by an address of its own, which takes registers
    return columns % 16 == 0


def _small_shared_memory(arch: int) -> bool:
    # 99 KiB for a block; GPUs for data centres have 163 or 227
    return arch in (86, 89) or arch >= 120


def check(features: Tensor, precision: str) -> None:
    """Raise ValueError for a precision or a dtype that no kernel takes."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    if features.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            f"features must be float32, float16 or bfloat16 for kernels, got {features.dtype}."
        )
