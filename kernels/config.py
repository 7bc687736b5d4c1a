"""Block sizes, warps and stages of every kernel, chosen in Python so that runs repeat exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .launch import interpreting

PRECISIONS = ("bf16", "tf32", "tf32x3", "ieee")
# d2 below this share of n_i + n_j is computed by differences; see README.md for the errors above it
NEAR = {"bf16": 1e-2, "tf32": 3e-3, "tf32x3": 1e-3, "ieee": 1e-3}
# operands are padded to a multiple of this, so that no kernel masks their columns
WIDTH_STEP = 64


class Config(NamedTuple):
    """Columns of a step along D (or along j, in the gradient), warps and stages."""

    block: int
    num_warps: int
    num_stages: int


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


def small_config(arch: int, precision: str) -> Config:
    """Of tiles of packed classes."""
    return Config(64 if precision == "bf16" else 32, 4, 2)


def gram_config(arch: int, precision: str) -> Config:
    """Of products along D of two tiles of operand rows."""
    stages = 2 if _small_shared_memory(arch) else 3
    if precision == "bf16":
        return Config(64, 8, stages)
    return Config(32, 8, stages)


def gradient_config(arch: int, precision: str) -> Config:
    """Of products of weights with operand rows."""
    return gram_config(arch, precision)


def gradient_columns(width: int) -> int:
    """Columns of the gradient that one program owns."""
    return 128 if width % 128 == 0 else 64


def column_block(columns: int, most: int) -> int:
    """The power of two of at least 16 that covers the columns, or the most allowed."""
    return min(most, max(16, 1 << (columns - 1).bit_length()))


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
