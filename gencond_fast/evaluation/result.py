"""What an evaluation found."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from gencond_fast.evaluation.accuracy_scores import (
    accuracy_per_bit,
    augmentation_robust_score,
    label_robust_score,
)
from gencond_fast.system.words import counted

# the training sets that are no baselines; `stream` is what earlier versions called `fresh`
CONDENSED = ("stored", "fresh", "stream")


def _deviation(accuracies: Sequence[float]) -> float:
    return statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0


def _percent(accuracies: Sequence[float]) -> str:
    """`59.20 ± 0.31`, or `59.20` of one seed."""
    mean = f"{100 * statistics.fmean(accuracies):.2f}"
    return mean if len(accuracies) == 1 else f"{mean} ± {100 * _deviation(accuracies):.2f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells in columns two blanks apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in row).rstrip() for row in rows)


def tested(split: str | None, held_out: float | None, images: int) -> str:
    """Test images in words.

    Args:
        split: the name of their split, or None.
        held_out: the share of the training split that they are, or None.
        images: how many they are.
    """
    if split is not None:
        return f"{split}, {counted(images, 'image')}"
    where = "of the test split" if held_out is None else "held out from training"
    return f"{counted(images, 'image')} {where}"


@dataclass(frozen=True)
class Row:
    """Students of one architecture trained on one kind of training set.

    Attributes:
        training_set: `stored`, `fresh`, or the name of a baseline.
        model: architecture.
        images_per_class: of the training set; of `full` the mean, undecodable images included.
        accuracies: on the test images after the last epoch, one a seed, as fractions.
        seconds: wall time of all seeds together.
        steps: optimiser steps of one student.
        attacked: accuracies under each attack by its name, and on the same images unchanged
            (`clean`), one a seed, as fractions; empty where there was none.
        augmented: whether the students saw images augmented, as the protocol says.
        epochs: passes over the training set; None in results of earlier versions, where it is that
            of the result.
        fewest_per_class: images of the smallest class; None in results of earlier versions.
        most_per_class: of the largest one, likewise.
        quality: of the image codec that stored the training set; None where there was none.
    """

    training_set: str
    model: str
    images_per_class: int
    accuracies: tuple[float, ...]
    seconds: float
    steps: int
    attacked: dict[str, tuple[float, ...]] = field(default_factory=dict)
    augmented: bool = True
    epochs: int | None = None
    fewest_per_class: int | None = None
    most_per_class: int | None = None
    quality: int | None = None

    @property
    def images(self) -> str:
        """Images a class: `120`, or `112 to 120` where classes have different numbers."""
        if self.fewest_per_class == self.most_per_class:
            return str(self.images_per_class)
        return f"{self.fewest_per_class} to {self.most_per_class}"

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Sample standard deviation over the seeds; 0 for one seed."""
        return _deviation(self.accuracies)

    @property
    def attacked_mean(self) -> dict[str, float]:
        """Mean accuracies under each attack over the seeds."""
        return {name: statistics.fmean(each) for name, each in self.attacked.items()}

    @property
    def attacked_std(self) -> dict[str, float]:
        """Their sample standard deviations; 0 for one seed."""
        return {name: _deviation(each) for name, each in self.attacked.items()}


@dataclass(frozen=True)
class EvaluationResult:
    """All rows and what they were measured with.

    Attributes:
        rows: one for each training set and architecture.
        protocol: all its numbers (`gencond_fast.training.protocol`); rows that are not augmented
            have neither its augmentation nor its CutMix.
        epochs: passes over the condensed images (the published protocol has 1000).
        bytes: of the condensed file.
        ipc: what the bytes are worth in float32 images a class.
        ipc_uint8: the same in uint8 images.
        bits_per_class: 8 * bytes / C.
        test_images: how many images were tested on.
        held_out: the share of the training split that they are, None where they are the data's
            own validation split.
        environment: versions and machine.
        tested_on: the name of the split of the data that was tested on; None where it was held out,
            and in files of earlier versions.
        attack: how students were attacked, all options of `AttackConfig`, with the number of
            `images` that were; None where they were not.
        labeller_accuracy: of the file's labeller by itself on the test images, as a fraction; None
            where students did not learn from it.
    """

    rows: tuple[Row, ...]
    protocol: dict[str, Any]
    epochs: int
    bytes: int
    ipc: float
    ipc_uint8: float
    bits_per_class: float
    test_images: int
    held_out: float | None
    environment: dict[str, Any]
    attack: dict[str, Any] | None = None
    tested_on: str | None = None
    labeller_accuracy: float | None = None

    @property
    def tested(self) -> str:
        """The images that were tested on, in words: `val, 341 images`."""
        return tested(self.tested_on, self.held_out, self.test_images)

    @property
    def label_robust_scores(self) -> dict[str, float]:
        """Of each architecture that learned from the condensed images, random and all real ones.

        See `scores.label_robust_score`; with w = 0.5 and mean accuracies. There are none where
        labels are soft, which those of the baselines are not.
        """
        means, found = self._means_by_hard_labels(), {}
        for kind, model, augmented in means:
            real, random = means.get(("full", model, True)), means.get(("random", model, True))
            if kind in CONDENSED and augmented and real is not None and random is not None:
                own = means[kind, model, True]
                found[model] = label_robust_score(
                    real_hard=real, stored_hard=own, stored_any=own, random_any=random
                )
        return found

    @property
    def augmentation_robust_scores(self) -> dict[str, float]:
        """Of each architecture that learned from the condensed images and random ones, both ways.

        See `scores.augmentation_robust_score`; with gamma = 0.5 and mean accuracies. There are none
        where labels are soft, as above.
        """
        means, found = self._means_by_hard_labels(), {}
        for kind, model, augmented in means:
            keys = [(name, model, way) for name in (kind, "random") for way in (True, False)]
            if kind in CONDENSED and augmented and all(key in means for key in keys):
                stored, stored_plain, random, random_plain = (means[key] for key in keys)
                found[model] = augmentation_robust_score(
                    stored_augmented=stored,
                    random_augmented=random,
                    stored_plain=stored_plain,
                    random_plain=random_plain,
                )
        return found

    def _means_by_hard_labels(self) -> dict[tuple[str, str, bool], float]:
        """Accuracies by training set, architecture, and augmentation; none of soft labels."""
        if self.protocol.get("soft"):
            return {}
        return {(row.training_set, row.model, row.augmented): row.mean for row in self.rows}

    def table(self) -> str:
        """Accuracies in %, mean ± standard deviation over the seeds, as a table of text.

        One line for each row; one seed has no deviation. Accuracies under attack stand beside, and
        the images that were tested on below.
        """
        attacks = list(self.rows[0].attacked) if self.rows else []
        lines = [["trained on", "images per class", "model", "seeds", "accuracy %"]]
        lines[0] += [f"{name} %" for name in attacks]
        for row in self.rows:
            trained_on = row.training_set if row.augmented else f"{row.training_set}, plain"
            cells = [trained_on, row.images, row.model, str(len(row.accuracies))]
            series = [row.accuracies, *(row.attacked[name] for name in attacks)]
            lines.append(cells + [_percent(accuracies) for accuracies in series])
        return f"{_aligned(lines)}\ntested on {self.tested}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `evaluate --json` writes them, with means and standard deviations."""
        plain = asdict(self)
        for row, values in zip(self.rows, plain["rows"], strict=True):
            values["mean"], values["std"] = row.mean, row.std
            values["attacked_mean"], values["attacked_std"] = row.attacked_mean, row.attacked_std
            if row.training_set in CONDENSED:
                values["accuracy_per_bit"] = accuracy_per_bit(row.mean, self.bits_per_class)
        plain["label_robust_scores"] = self.label_robust_scores
        plain["augmentation_robust_scores"] = self.augmentation_robust_scores
        return plain

    @classmethod
    def from_dict(cls, values: Any) -> EvaluationResult:
        """The result that `to_dict` gave these values of; others that it does not know are left.

        Raises:
            ValueError: they are no result.
        """
        result: EvaluationResult = TypeAdapter(cls).validate_python(values)
        series = [s for row in result.rows for s in (row.accuracies, *row.attacked.values())]
        shares = [share for each in series for share in each]
        if not all(series) or not all(0 <= s <= 1 for s in shares):
            raise ValueError("a row has no accuracies, or ones that are no shares")
        return result
