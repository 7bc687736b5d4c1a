"""Discrepancies between real and generated features, by name."""

from __future__ import annotations

from collections.abc import Mapping

from gencond_fast.discrepancy.base import (
    Discrepancy,
    Generated,
    Network,
    Real,
    RealImages,
    RealSamples,
)
from gencond_fast.discrepancy.batchnorm import BatchNorm
from gencond_fast.discrepancy.cf import CharacteristicFunction
from gencond_fast.discrepancy.gradient import Gradient, GradientAbsolute, GradientSquared
from gencond_fast.discrepancy.logit import Logit
from gencond_fast.discrepancy.mean import Mean
from gencond_fast.discrepancy.mmd import MaximumMean
from gencond_fast.discrepancy.moments import Moments
from gencond_fast.discrepancy.sliced_wasserstein import SlicedWasserstein
from gencond_fast.errors import InputError

__all__ = [
    "DISCREPANCIES",
    "Discrepancy",
    "Generated",
    "Network",
    "Real",
    "RealImages",
    "RealSamples",
    "build_discrepancy",
    "required",
]

DISCREPANCIES: dict[str, type[Discrepancy]] = {
    "mean": Mean,
    "moments": Moments,
    "cf": CharacteristicFunction,
    "mmd": MaximumMean,
    "sliced_wasserstein": SlicedWasserstein,
    "gradient": Gradient,
    "gradient_squared": GradientSquared,
    "gradient_l1": GradientAbsolute,
    "batchnorm": BatchNorm,
    "logit": Logit,
}


def required(weights: Mapping[str, float]) -> list[type[Discrepancy]]:
    """The discrepancies that have a weight other than zero."""
    return [DISCREPANCIES[name] for name, weight in weights.items() if weight != 0.0]


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
