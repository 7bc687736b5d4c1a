"""The description of a stored set that goes into the file, and what it weighs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from gencond_fast.config.types import Small
from gencond_fast.store.blocks import block_side

# bounds on what a small file can unfold to
MOST_LEVELS = 64  # in a byte of coded frequencies, and probabilities in one of coded labels
MOST_ASKED = 256  # classes in a byte of coded labels, kept or not
MOST_WEIGHTS = 64  # of the networks of a generator, in a byte


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StoreSpec:
    """Everything that fixes the shapes of a stored set.

    The bounds are there for files from strangers: no accepted description can make the reader
    allocate more than the file itself carries or, of what is coded, MOST_LEVELS numbers for each
    byte and, in passing, MOST_ASKED.

    Attributes:
        format: `generator` (codes, and networks that all classes share), `dct` (entropy-coded
            frequencies alone) or `pixels` (a plain tensor of images).
        num_classes: C.
        per_class: stored samples of each class.
        channels: 1 or 3.
        image_size: side of the square images in pixels.
        width: channels inside the synthesis network (generator).
        code_channels: channels of an image.
        code_size: blocks in a row (generator), or side of one stored image (pixels).
        coefficients: frequencies kept of each sample (dct) or of each block (generator), K.
        stream_bytes: of all that is coded beside labels, in words of four (dct, generator).
        soft_labels: class probabilities kept for each sample, at most C; 0 where labels are hard.
        label_bytes: of coded soft labels of all samples, in words of four; 0 where they are plain.
    """

    format: Literal["dct", "generator", "pixels"]
    num_classes: Annotated[int, Field(ge=1, le=1_000_000)]
    per_class: Annotated[int, Field(ge=1, le=1_000_000)]
    channels: Literal[1, 3]
    image_size: Annotated[int, Field(ge=4, le=1024)]
    width: Small
    code_channels: Small
    code_size: Small
    coefficients: Annotated[int, Field(ge=0, le=3 * 2**20)] = 0
    stream_bytes: Annotated[int, Field(ge=0, le=2**40)] = 0
    soft_labels: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    label_bytes: Annotated[int, Field(ge=0, le=2**40)] = 0

    def __post_init__(self) -> None:
        if self.code_size > self.image_size:
            raise ValueError("code_size is larger than image_size")
        if self.soft_labels > self.num_classes:
            raise ValueError("soft_labels is larger than num_classes")
        if self.format != "pixels":
            self._check_frequencies()
        if self.label_bytes:
            self._check_labels()

    def _check_frequencies(self) -> None:
        side = self.image_size
        if self.format == "generator":
            side = block_side(side)
            if self.code_size != -(-self.image_size // side):
                raise ValueError("code_size is not the number of blocks in a row")
            if self.weights > MOST_WEIGHTS * self.stream_bytes:
                raise ValueError(f"there are more than {MOST_WEIGHTS} weights in a byte")
        if not 1 <= self.coefficients <= self.channels * side**2:
            raise ValueError("coefficients are none or more than an image has")
        if self.stream_bytes % 4:
            raise ValueError("stream_bytes is no whole number of words")
        if self.samples * self.coefficients * self.blocks > MOST_LEVELS * self.stream_bytes:
            raise ValueError(f"there are more than {MOST_LEVELS} coefficients in a byte")

    def _check_labels(self) -> None:
        if not self.soft_labels or self.label_bytes % 4:
            raise ValueError("label_bytes is no whole number of words of soft labels")
        if self.label_bytes < self.least_label_bytes:
            raise ValueError("there are too many soft labels in a byte")

    @property
    def least_label_bytes(self) -> int:
        """The fewest that coded soft labels may take, in words of four."""
        kept = -(-self.samples * self.soft_labels // MOST_LEVELS)
        asked = -(-self.samples * self.num_classes // MOST_ASKED)
        return 4 * -(-max(kept, asked) // 4)

    @property
    def blocks(self) -> int:
        """Of the transform of one channel of an image."""
        return self.code_size**2 if self.format == "generator" else 1

    @property
    def weights(self) -> int:
        """Of both networks of a generator."""
        full = self.channels * block_side(self.image_size) ** 2
        each = self.coefficients + self.num_classes + full + 18 * self.channels + 27 * self.width
        synthesis = self.width * (each + 5) + full + self.channels
        return synthesis + 8 * self.coefficients + 3 * self.num_classes + 1419

    @property
    def samples(self) -> int:
        """Stored samples of all classes together."""
        return self.num_classes * self.per_class
