"""Block sizes, warps and stages of every kernel, chosen in Python so that runs repeat exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .launch import interpreting

PRECISIONS = ("bf16", "tf32", "tf32x3", "ieee")
# d2 below this share of n_i + n_j is computed by differences; see README.md for the errors above it
NEAR = {"bf16": 1e-2, "tf32": 3e-3, "tf32x3": 1e-3, "ieee": 1e-3}
# steps of the products that leave registers for the rest of a kernel
BLOCK = {"bf16": 64, "tf32": 32, "tf32x3": 16, "ieee": 16}
# columns of the narrow tiles in which near pairs are computed
NEAR_COLUMNS = 32
# operands are padded to a multiple of this, so that no kernel masks their columns
WIDTH_STEP = 64


class Config(NamedTuple):
    """Columns of a step along D (or along j, in the gradient), warps and stages."""

    block: int
    num_warps: int
    num_stages: int


# the interpreter takes the same time for an operation on 16 columns as on 64
INTERPRETED = Config(64, 1, 1)


def device_arch(device: torch.device) -> int:
    """Compute capability times ten; in the interpreter any will do."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def effective_precision(precision: str) -> str:
    """The precision to run at: the interpreter multiplies bf16 wrongly, so it gets float32."""
    return "ieee" if precision == "bf16" and interpreting() else precision


def operand_dtype(precision: str) -> torch.dtype:
    """How operands of the products are stored."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def small_config(precision: str, columns: int) -> Config:
    """Of tiles of packed classes."""
    if interpreting():
        return INTERPRETED
    block = BLOCK[precision] if _aligned(columns) else min(BLOCK[precision], 32)
    return Config(block, 8, 2 if precision in ("bf16", "ieee") else 3)


def gram_config(arch: int, precision: str) -> Config:
    """Of products along D of two tiles of operand rows, and of weights with operand rows."""
    if interpreting():
        return INTERPRETED
    few_registers = precision == "ieee" or (precision == "tf32x3" and arch < 90)
    return Config(BLOCK[precision], 8, 2 if few_registers or _small_shared_memory(arch) else 3)


def weights_columns(arch: int, tile: int) -> int:
    """Columns of a tile whose weights are formed together; Blackwell's registers hold half."""
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
    # if not, every number has an address of its own, which takes registers
    return columns % 16 == 0


def _small_shared_memory(arch: int) -> bool:
    # 99 KiB a block, where data-centre parts have 163 or 227
    return arch in (86, 89) or arch >= 120


def check(features: Tensor, precision: str) -> None:
    """Raise ValueError for what no kernel takes."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    if features.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            f"features must be float32, float16 or bfloat16 for kernels, got {features.dtype}."
        )
