"""The arithmetic of matrix products: its rounding, and how PyTorch is told to use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bf16"]

ROUNDING: dict[Precision, float] = {"float32": 2.0**-23, "tf32": 2.0**-10, "bf16": 2.0**-7}


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Lets float32 products on a GPU run in tf32 if that is the precision."""
    if precision != "tf32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
