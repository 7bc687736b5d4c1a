"""Kinds of options, and the names that some of them choose from."""

from __future__ import annotations

import os
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid")
Name = TypeVar("Name", bound=str)

Small = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(ge=0.0, le=255.0)]
Weight = Annotated[float, Field(allow_inf_nan=False)]
StoreFormat = Literal["dct", "generator", "pixels"]
Device = Literal["auto", "cpu", "cuda"]
OnBadImage = Literal["error", "skip"]
PathText = Annotated[
    str, BeforeValidator(lambda v: os.fspath(v) if isinstance(v, os.PathLike) else v)
]
"""A path or a name, which may be given as a `pathlib.Path`."""
Transparency = Literal["white", "black", "ignore"]
ReaderName = Literal["auto", "dali", "processes", "threads"]
Precision = Literal["auto", "float32", "bfloat16"]
# YAML reads a bare on or off as true or false
Switch = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(lambda v: ("off", "on")[v] if isinstance(v, bool) else v),
]
AttackName = Literal["fgsm", "pgd", "autoattack"]
Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
DISCREPANCY_NAMES = (
    "mean",
    "moments",
    "cf",
    "mmd",
    "sliced_wasserstein",
    "gradient",
    "gradient_squared",
    "gradient_l1",
    "batchnorm",
    "logit",
)


def without_repetition(names: tuple[Name, ...]) -> tuple[Name, ...]:
    """The names; ValueError if one of them stands there twice."""
    if len(set(names)) < len(names):
        raise ValueError("it names one of them twice")
    return names
