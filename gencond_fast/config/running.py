"""Options of everything that reads images and computes."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic.dataclasses import dataclass

from gencond_fast.config.types import (
    STRICT,
    Device,
    OnBadImage,
    PathText,
    Precision,
    ReaderName,
    Switch,
    Transparency,
)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RunOptions:
    """Where images come from, who reads them, and what computes.

    Attributes:
        data: path or name of the data set.
        label_column: the column of labels, where the data is a table; null looks for one.
        transparency: ground of transparent images: `white`, `black`, or `ignore`, which takes the
            colours under transparent pixels as they are stored; null is what a condensed file was
            made with, else white.
        on_bad_image: what to do about an image that cannot be decoded: stop with an `error`, or
            `skip` it.
        reader: who decodes images: DALI, or Pillow in processes or threads; `auto` takes DALI on a
            GPU where it is installed, else processes on two cores or more, else threads.
        in_memory: whether to decode images that are read more than once only once and keep them;
            `auto` keeps what fits into a quarter of the free memory.
        device: `auto` takes a GPU if there is one.
        precision: number format of the networks; `auto` takes bfloat16 where the hardware has it.
        compile: whether to use `torch.compile`; `auto` uses it where that saves time.
    """

    data: PathText
    label_column: str | None = None
    transparency: Transparency | None = None
    on_bad_image: OnBadImage = "error"
    reader: ReaderName = "auto"
    in_memory: Switch = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    compile: Switch = "auto"


def run_options(config: RunOptions) -> dict[str, Any]:
    """The options of `RunOptions` in a config, by name, for another config."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(RunOptions)}
