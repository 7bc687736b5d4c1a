"""What the launchers of the pair losses pass to one another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import config
from .arguments import Features
from .tiles import Group, Numbers, Tables, tile_tables, unpack


@dataclass(frozen=True)
class Problem:
    """A pair loss to compute, with its tables unpacked."""

    features: Tensor
    order: Tensor
    offsets: Tensor
    centres: Tensor | None
    numbers: Numbers
    groups: list[Group]
    tables: Tables
    kind: str
    parameter: float
    precision: str
    need_grad: bool

    @property
    def rows(self) -> Features:
        """The features as kernels take them."""
        x = self.features
        return Features(x, self.order, x.shape[1], x.stride(0), x.stride(1))

    @property
    def cosine(self) -> bool:
        """Whether features are divided by their norms."""
        return self.kind in ("infonce", "nearest")

    @property
    def arch(self) -> int:
        """Compute capability times ten."""
        return config.device_arch(self.features.device)

    @property
    def kernel_parameter(self) -> float:
        """The number that `maths.pair_terms` takes for the kind."""
        if self.kind == "hinge":
            return self.parameter
        inverse = 1 / self.parameter if self.cosine else 0.5 / self.parameter / self.parameter
        # inf times 0 is NaN: in float32 this number must not become 0, nor inf
        inverse = min(max(inverse, 1e-37), 1e37)
        return inverse if self.cosine else -inverse

    @property
    def loss_scale(self) -> float:
        """One over the number of terms: of pairs, or of rows that have a partner."""
        terms = self.numbers.compared if self.cosine else self.numbers.pairs
        return 1 / max(terms, 1)

    @property
    def grad_scale(self) -> float:
        """2 dL/d(d2_ij) for a pair of weight W_ij = 1."""
        factors = {
            "rbf": 4 * self.kernel_parameter,
            "hinge": -4.0,
            "infonce": -self.kernel_parameter,
            "nearest": -1.0,
        }
        return factors[self.kind] * self.loss_scale


def read_tables(offsets: Tensor, num_rows: int, tables: list[Tensor]) -> list[Tensor]:
    """Return the given tables, or make new ones, which waits for the device.

    Raises:
        RuntimeError: tables would have to be made while a CUDA graph is captured.
        ValueError: the tables are of other numbers of rows or classes.
    """
    if not tables:
        if offsets.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "Tile tables cannot be made while a CUDA graph is captured, because that reads "
                "class sizes from the device: make them before and pass them as tables."
            )
        return tile_tables(offsets.cpu(), num_rows, offsets.device)
    numbers, _, _ = unpack(tables)
    if (numbers.num_rows, numbers.num_classes) != (num_rows, offsets.numel() - 1):
        raise ValueError(
            f"The tables are of {numbers.num_rows} rows in {numbers.num_classes} segments, the "
            f"features have {num_rows} rows in {offsets.numel() - 1}."
        )
    return tables
