"""Numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str, many: str | None = None) -> str:
    """`1 image`, `2,000 images`.

    Args:
        number: how many.
        noun: for one of them.
        many: for several; None adds an s.
    """
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"
