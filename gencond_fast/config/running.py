"""Options of everything that reads images and computes."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic.dataclasses import dataclass

from gencond_fast.config.types import (
    STRICT,
    Device,
    OnBadImage,
    Precision,
    ReaderName,
    Switch,
)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RunOptions:
    """Where images come from, who reads them, and what computes.

    Attributes:
        data: path or name of the data set.
        on_bad_image: whether an image that cannot be decoded is an `error` or is left out
            (`skip`); see `gencond_fast.data.open_source`.
        reader: who decodes images: DALI, or Pillow in processes or threads; `auto` takes the
            fastest, see `gencond_fast.data.readers.choice`.
        in_memory: whether images that are read more than once are decoded once and kept; `auto`
            keeps what fits into a quarter of the memory that is left.
        device: `auto` takes a GPU when there is one.
        precision: of the networks; `auto` is bfloat16 where the device has it in hardware.
        compile: `torch.compile` of generator and networks; `auto` weighs its cost.
    """

    data: str
    on_bad_image: OnBadImage = "error"
    reader: ReaderName = "auto"
    in_memory: Switch = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    compile: Switch = "auto"


def run_options(config: RunOptions) -> dict[str, Any]:
    """The options of `RunOptions` in a config, by name, for another config."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(RunOptions)}
