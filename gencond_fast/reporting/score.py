"""One accuracy as the page tells it."""

from __future__ import annotations

from dataclasses import dataclass

from gencond_fast.reporting.feature_map import short

_MARKS = {"stored": "condensed", "fresh": "fresh", "stream": "fresh", "full": "all real"}


@dataclass(frozen=True)
class Score:
    """One row of an evaluation.

    Attributes:
        run: name of the run.
        file: the result that it stands in.
        kind: name of the training set: `stored`, `fresh`, or that of a baseline.
        trained_on: the training set in words.
        baseline: whether that is no condensed one.
        full: whether it is all real images.
        images: a class.
        model: the student.
        protocol: how it was trained.
        epochs: passes over the training set.
        steps: of the optimiser.
        seeds: students.
        mean: accuracy in per cent.
        std: likewise.
        tested_on: what the accuracy is measured on, in words.
        held_out: whether that is a part of the training images.
        file_bytes: of the condensed file, as it was when it was evaluated.
        outdated: whether the file has other bytes now.
        augmented: whether the students saw images augmented, as the protocol says.
    """

    run: str
    file: str
    kind: str
    trained_on: str
    baseline: bool
    full: bool
    images: str
    model: str
    protocol: str
    epochs: int
    steps: int
    seeds: int
    mean: float
    std: float
    tested_on: str
    held_out: bool
    file_bytes: int
    outdated: bool
    augmented: bool

    @property
    def spread(self) -> str:
        """The standard deviation as it is told, of one seed nothing."""
        return f" ± {self.std:.2f}" if self.seeds > 1 else ""

    @property
    def mark(self) -> str:
        """What a mark of it in a chart is called."""
        return short(f"{_MARKS.get(self.kind, self.kind)}, {self.model}", 28)

    @property
    def title(self) -> str:
        """All there is to say of it."""
        size = "" if self.bytes is None else f", {self.bytes:,} bytes"
        return (
            f"{self.run}: {self.mean:.2f}{self.spread} %, trained on {self.trained_on}{size} "
            f"({self.protocol}, {self.model}, {self.epochs} epochs, {self.tested_on})"
        )

    @property
    def bytes(self) -> int | None:
        """That the training set is counted as; None for all real images."""
        return None if self.full else self.file_bytes
