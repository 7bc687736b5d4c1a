"""What there is to say of several runs together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from gencond_fast.config.options import flatten, to_plain
from gencond_fast.reporting.accuracy import comparable, draw_accuracy
from gencond_fast.reporting.feature_map import short
from gencond_fast.reporting.section import Section


def compare(sections: Sequence[Section]) -> dict[str, Any]:
    """The options in which runs differ, and one chart where all are of one data set."""
    flat = [flatten(to_plain(section.record.config)) for section in sections]
    names = dict.fromkeys(name for options in flat for name in options)
    hidden = ("data", "out", "classes")
    differing = {
        name: [options.get(name, "") for options in flat]
        for name in names
        if name not in hidden and any(o.get(name) != flat[0].get(name) for o in flat)
    }
    scores = [score for section in sections for score in comparable(section.scores)]
    return {
        "options": differing,
        "chart": _chart(sections, "all-accuracy") if len(_by_data(sections)) == 1 else None,
        "published": sections[0].published,
        "full": [score for score in scores if score.full],
    }


def accuracy_charts(sections: Sequence[Section]) -> list[tuple[str, Markup]]:
    """Accuracy against bytes: one chart, and what it is of, for each data set with scores."""
    charts = [(_title(group[0]), _chart(group, "group")) for group in _by_data(sections)]
    return [(title, chart) for title, chart in charts if chart is not None]


def _chart(group: Sequence[Section], key: str) -> Markup | None:
    scores = [score for section in group for score in comparable(section.scores)]
    return draw_accuracy(scores, group[0].published, key)


def _by_data(sections: Sequence[Section]) -> list[list[Section]]:
    """Runs whose accuracies can be compared, together."""
    groups: dict[tuple[object, ...], list[Section]] = {}
    for section in sections:
        metadata = section.record.artifact.metadata
        subject = (section.record.data_name, metadata.class_names, metadata.store.image_size)
        groups.setdefault(subject, []).append(section)
    return list(groups.values())


def _title(section: Section) -> str:
    spec = section.record.artifact.metadata.store
    name = section.published.title if section.published else section.record.data_name
    return f"{short(name, 32)}: {spec.num_classes:,} classes, {spec.image_size} x {spec.image_size}"
