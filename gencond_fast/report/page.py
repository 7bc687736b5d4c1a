"""The report: one HTML page about finished runs that loads nothing from anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gencond_fast._version import __version__
from gencond_fast.budget import bits_per_class, bytes_to_ipc, format_bytes
from gencond_fast.errors import InputError
from gencond_fast.files import write_text
from gencond_fast.options import changed_options, flatten, to_plain
from gencond_fast.report.accuracy import Score, draw_accuracy, scores_of
from gencond_fast.report.command import condense_command, show_command
from gencond_fast.report.curves import Chart, draw_curves
from gencond_fast.report.facts import environment_facts, facts, lead
from gencond_fast.report.feature_map import draw_map
from gencond_fast.report.features import FeatureMap, map_features
from gencond_fast.report.pictures import ClassPictures, class_pictures
from gencond_fast.report.published import Published, published_for
from gencond_fast.report.record import Record, read_records
from gencond_fast.report.robustness import (
    AttackTable,
    LabelRobust,
    attack_tables,
    label_robust_scores,
)

PAGE_NAME = "report.html"
_MOST_BYTES = 3_000_000
_PICTURE_BYTES = 2_200_000  # of all runs together
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


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
        label_robust: scores that follow from the accuracies.
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
    label_robust: list[LabelRobust]
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
        """The first accuracy of a condensed set."""
        return next((score for score in self.scores if not score.control), None)


def write_report(
    runs: Sequence[str | Path], out: Path | None = None, data: str | None = None
) -> Path:
    """Writes a page about finished runs and returns its path.

    Args:
        runs: run directories.
        out: the page; `report.html` in the first run directory when None.
        data: path or name of the data that the runs were condensed from, for real images in the
            feature map.

    Raises:
        InputError: a run is not finished, one of its files is damaged, the data is not that of a
            run, or the page cannot be written.
    """
    if not runs:
        raise InputError("there is no run to report on: give run directories")
    records = read_records(runs)
    path = out or records[0].directory / PAGE_NAME
    _refuse_unwritable(path)
    text = render(records, data)
    if len(text.encode()) > _MOST_BYTES:
        raise InputError(
            f"a page about {len(records)} runs would weigh more than {format_bytes(_MOST_BYTES)}: "
            "report on fewer of them at a time"
        )
    try:
        write_text(path, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be written ({reason}): give another --out") from None
    return path


def render(records: Sequence[Record], data: str | None = None) -> str:
    """The page as text.

    Raises:
        InputError: a picture of a run is damaged, or the data is not that of a run.
    """
    share = _PICTURE_BYTES // len(records)
    sections = [
        _section(record, f"run{place}", share, data) for place, record in enumerate(records)
    ]
    page = (
        _templates()
        .get_template("page.html")
        .render(
            sections=sections,
            comparison=_comparison(sections) if len(sections) > 1 else None,
            version=__version__,
        )
    )
    return _CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", page)


def _section(record: Record, key: str, picture_bytes: int, data: str | None) -> Section:
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
        chart=draw_accuracy(_comparable(scores), published, f"{key}-accuracy"),
        attacks=attack_tables(record),
        label_robust=label_robust_scores(record),
        curves=draw_curves(record.metrics, f"{key}-curve"),
        features=features,
        feature_map=draw_map(features, artifact.metadata.class_names, f"{key}-map"),
    )


def _comparable(scores: Sequence[Score]) -> list[Score]:
    """Those measured on the test split."""
    return [score for score in scores if not score.held_out]


def _comparison(sections: Sequence[Section]) -> dict[str, Any]:
    """The options in which runs differ, and one chart where all are of one data set."""
    flat = [flatten(to_plain(section.record.config)) for section in sections]
    names = dict.fromkeys(name for options in flat for name in options)
    hidden = ("data", "out", "classes")
    differing = {
        name: [options.get(name, "") for options in flat]
        for name in names
        if name not in hidden and any(o.get(name) != flat[0].get(name) for o in flat)
    }
    first = sections[0]
    alike = all(_subject(section) == _subject(first) for section in sections)
    scores = [score for section in sections for score in _comparable(section.scores)]
    chart = draw_accuracy(scores, first.published, "all-accuracy") if alike else None
    return {
        "options": differing,
        "chart": chart,
        "published": first.published,
        "full": [score for score in scores if score.full],
    }


def _subject(section: Section) -> tuple[object, ...]:
    """What two runs must have in common so that their accuracies can be compared."""
    metadata = section.record.artifact.metadata
    return (section.record.data_name, metadata.class_names, metadata.store.image_size)


def _refuse_unwritable(path: Path) -> None:
    """Before the work is done."""
    if path.is_dir():
        raise InputError(f"--out {path} is a folder: give the name of a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out {path}: the folder {path.parent} does not exist")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("gencond_fast.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = format_bytes
    environment.filters["plain"] = _plain
    return environment


def _plain(value: object) -> str:
    """An option for people."""
    if value is None or value == "":
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
