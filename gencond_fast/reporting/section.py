"""What the page shows of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gencond_fast.config.options import changed_options
from gencond_fast.reporting.accuracy import comparable, draw_accuracy, scores_of
from gencond_fast.reporting.command import condense_command, show_command
from gencond_fast.reporting.curves import Chart, draw_curves
from gencond_fast.reporting.facts import environment_facts, facts, lead
from gencond_fast.reporting.feature_map import draw_map
from gencond_fast.reporting.features import FeatureMap, map_features
from gencond_fast.reporting.pictures import ClassPictures, class_pictures
from gencond_fast.reporting.published import Published, published_for
from gencond_fast.reporting.record import Record
from gencond_fast.reporting.robustness import (
    AttackTable,
    RobustScore,
    attack_tables,
    robust_scores,
)
from gencond_fast.reporting.score import Score
from gencond_fast.store.budget import bits_per_class, bytes_to_ipc


@dataclass(frozen=True, eq=False)
class Section:
    """What the page shows of one run.

    Attributes:
        key: of ids on the page.
        record: what the run left.
        lead: one sentence that says what the file is.
        facts: what there is to know of it, by name.
        environment: versions and machine, by name.
        size: bytes of the file.
        bits: 8 * bytes / C.
        ipc: what the bytes are worth in float32 images a class.
        options: that differ from their defaults, by name.
        command: that makes the same file.
        pictures: of the first classes.
        scores: rows of all evaluations.
        published: of the data set, None where nothing is known.
        chart: accuracy against bytes, None without evaluation.
        attacks: what students withstood.
        robust: scores that follow from the accuracies.
        curves: over the steps.
        features: of samples, and of real images where data was given.
        feature_map: its picture.
    """

    key: str
    record: Record
    lead: str
    facts: dict[str, str]
    environment: dict[str, Any]
    size: int
    bits: float
    ipc: float
    options: dict[str, Any]
    command: str
    pictures: list[ClassPictures]
    scores: list[Score]
    published: Published | None
    chart: Markup | None
    attacks: list[AttackTable]
    robust: list[RobustScore]
    curves: list[Chart]
    features: FeatureMap
    feature_map: Markup

    @property
    def most_pictures(self) -> int:
        """Of the longest strip."""
        strips = (s for each in self.pictures for s in (each.generated, each.real) if s)
        return max(strip.count for strip in strips)

    @property
    def headline(self) -> Score | None:
        """The accuracy of the longest-trained students of the file as it is, None without one.

        Of the same file before those of another, augmented before not; of equals, the first.
        """
        condensed = [score for score in self.scores if not score.baseline]
        return max(
            condensed,
            key=lambda score: (not score.outdated, score.augmented, score.steps),
            default=None,
        )


def make_section(record: Record, key: str, picture_bytes: int, data: str | None) -> Section:
    """Draws and collects what there is to show.

    Args:
        record: what the run left.
        key: prefix of ids, of its own on the page.
        picture_bytes: that its pictures may take.
        data: path or name of the data of the run, for real images in the feature map.

    Raises:
        InputError: a picture is damaged, or the data is not that of the run.
    """
    artifact = record.artifact
    spec = artifact.metadata.store
    scores = scores_of(record)
    published = published_for(record.data_name, spec)
    features = map_features(record, data)
    # the command names folders, not where they lie on the machine of the run
    arguments = condense_command(record.config, data=record.data_name, out=record.name)
    hidden = ("data", "out", "ipc", "bytes", "seed")
    options = {k: v for k, v in changed_options(record.config).items() if k not in hidden}
    return Section(
        key=key,
        record=record,
        lead=lead(record),
        facts=facts(record),
        environment=environment_facts(record),
        size=artifact.size,
        bits=bits_per_class(artifact.size, spec.num_classes),
        ipc=bytes_to_ipc(artifact.size, spec.num_classes, spec.channels, spec.image_size),
        options=options,
        command=show_command(arguments),
        pictures=class_pictures(record, picture_bytes),
        scores=scores,
        published=published,
        chart=draw_accuracy(comparable(scores), published, f"{key}-accuracy"),
        attacks=attack_tables(record),
        robust=robust_scores(record),
        curves=draw_curves(record.metrics, f"{key}-curve"),
        features=features,
        feature_map=draw_map(features, artifact.metadata.class_names, f"{key}-map"),
    )
