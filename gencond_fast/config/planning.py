"""Options of a plan, beside those of the condensation and the evaluation that are planned."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from gencond_fast.config.types import STRICT, Positive


def _ascending(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(numbers)))


@dataclass(frozen=True, config=STRICT)
class PlanConfig:
    """What is planned for.

    Attributes:
        devices: numbers of ranks, each with a device like the one of this machine.
        link: bytes a second between two ranks, assumed, not measured.
        images: training images of a data set that is not at hand; None where one is.
        num_classes: its classes.
    """

    devices: Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_ascending)] = (
        *(1, 8, 64),
    )
    link: Positive = 10_000_000_000
    images: Positive | None = None
    num_classes: Annotated[int, Field(ge=2)] | None = None

    def __post_init__(self) -> None:
        if (self.images is None) != (self.num_classes is None):
            raise ValueError("images and num_classes go together: give both or none")
        if self.images is not None and self.num_classes and self.images < self.num_classes:
            raise ValueError("there are fewer images than classes: make images larger")
