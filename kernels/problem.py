"""What the launchers of the pair losses pass one another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import config
from .tiles import Group, Numbers, Tables, tile_tables, unpack


@dataclass(frozen=True)
class Problem:
    """A pair loss to be computed, its tables unpacked."""

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
        # what is multiplied by inf must not become 0 in float32, nor inf what is multiplied by 0
        inverse = min(max(inverse, 1e-37), 1e37)
        return inverse if self.cosine else -inverse

    @property
    def loss_scale(self) -> float:
        """The factor of the sum of terms: over pairs, or over rows with a partner."""
        terms = self.numbers.compared if self.cosine else self.numbers.pairs
        return 1 / max(terms, 1)

    @property
    def grad_scale(self) -> float:
        """2 dL/d(d2_ij) of a pair of weight 1."""
        factors = {
            "rbf": 4 * self.kernel_parameter,
            "hinge": -4.0,
            "infonce": -self.kernel_parameter,
            "nearest": -1.0,
        }
        return factors[self.kind] * self.loss_scale


def read_tables(offsets: Tensor, num_rows: int, tables: list[Tensor]) -> list[Tensor]:
    """The given tables, or new ones, which takes a synchronisation with the device.

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
