"""Randomness without state: every draw has a name, so a resumed run draws the same numbers."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one purpose, such as `derive_seed(seed, "match", step)`."""
    text = ":".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def named_rng(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for one purpose; the same numbers on every device that they are sent to."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))
