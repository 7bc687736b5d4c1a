"""The norms that a convolutional classifier can have."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["instance", "batch"]


def build_norm(norm: Norm, width: int) -> nn.Module:
    """Instance norm, the default of the condensation literature, or batch norm."""
    # one group per channel is instance norm
    return nn.GroupNorm(width, width) if norm == "instance" else nn.BatchNorm2d(width)
