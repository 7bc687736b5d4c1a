"""Amounts of bytes, as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

from gencond_fast.errors import InputError

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "KI": 1024, "MI": 1024**2, "GI": 1024**3}


def parse_bytes(text: str) -> int:
    """Reads `40000`, `40KB`, `1.5 MiB`: K, M, G are powers of 1000; Ki, Mi, Gi of 1024.

    Raises:
        InputError: the text is no positive amount of bytes.
    """
    match = re.fullmatch(r"\s*(\d{1,18})(\.\d{1,18})?\s*([KMG]I?|)B?\s*", text.upper())
    amount = int(Fraction(match[1] + (match[2] or "")) * _UNITS[match[3]]) if match else 0
    if amount < 1:
        raise InputError(f"{text!r} is no amount of bytes: write it like 40000, 40KB or 1.5MiB")
    return amount


def format_bytes(amount: int) -> str:
    """`122,880 bytes` for people, with the unit that fits."""
    for unit, size in (("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if amount >= 0.9995 * size:  # rounds to 1 of this unit, not to 1e+03 of the next
            return f"{amount / size:.3g} {unit}"
    return f"{amount} bytes"
