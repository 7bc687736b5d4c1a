"""Discrepancies between real and generated features, by name."""

from __future__ import annotations

from gencond_fast.discrepancy.base import Discrepancy, Generated, Real
from gencond_fast.discrepancy.cf import CharacteristicFunction
from gencond_fast.discrepancy.mean import Mean
from gencond_fast.discrepancy.moments import Moments
from gencond_fast.errors import InputError

__all__ = ["DISCREPANCIES", "Discrepancy", "Generated", "Real", "build_discrepancy"]

DISCREPANCIES: dict[str, type[Discrepancy]] = {
    "mean": Mean,
    "moments": Moments,
    "cf": CharacteristicFunction,
}


def build_discrepancy(name: str) -> Discrepancy:
    """The discrepancy called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in DISCREPANCIES:
        raise InputError(
            f"unknown discrepancy {name!r} in losses.discrepancies: choose from "
            f"{', '.join(DISCREPANCIES)}"
        )
    return DISCREPANCIES[name]()
