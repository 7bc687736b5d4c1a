"""What students reached: rows of a table, and a chart of accuracy against bytes."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from markupsafe import Markup

from gencond_fast.evaluation.result import CONDENSED, EvaluationResult, Row
from gencond_fast.reporting.accuracy_rows import draw_rows
from gencond_fast.reporting.feature_map import short, spread
from gencond_fast.reporting.published import Method, Published
from gencond_fast.reporting.record import Record
from gencond_fast.reporting.score import Score
from gencond_fast.reporting.svg import Scale, axes, element, markup, path, picture
from gencond_fast.system.bytes import format_bytes

_WIDTH, _HEIGHT = 540, 350
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 76, 14, 42
_LEAST_RANGE = 30  # of bytes, largest over smallest
_LABEL = 15  # pixels between two names, at least
TRAINING_SETS = {
    "stored": "the condensed file",
    "fresh": "the condensed file, fresh samples every epoch",
    "stream": "the condensed file, fresh samples every epoch",
    "random": "random real images, as many as the budget in IPC",
    "raw": "random real images, as many as the file has samples",
    "jpeg": "random real images as JPEG, in the bytes of the file",
    "avif": "random real images as AVIF, in the bytes of the file",
    "full": "all real images",
}


def scores_of(record: Record) -> list[Score]:
    """All rows of all results of a run, condensed sets first."""
    rows = [
        Score(
            run=record.name,
            file=file,
            kind=row.training_set,
            trained_on=trained_on(row) + _labelled(row, result),
            baseline=row.training_set not in CONDENSED,
            full=row.training_set == "full",
            images=row.images,
            model=row.model,
            protocol=str(result.protocol.get("name", "?")),
            epochs=row.epochs or result.epochs,
            steps=row.steps,
            seeds=len(row.accuracies),
            mean=100 * row.mean,
            std=100 * row.std,
            tested_on=f"{result.test_images:,} "
            + ("test images" if result.held_out is None else "held-out training images")
            + ("" if result.tested_on is None else f" ({result.tested_on})"),
            held_out=result.held_out is not None,
            file_bytes=result.bytes,
            outdated=result.bytes != record.artifact.size,
            augmented=row.augmented,
        )
        for file, result in record.evaluations.items()
        for row in result.rows
    ]
    return sorted(rows, key=lambda score: score.baseline)


def _labelled(row: Row, result: EvaluationResult) -> str:
    """What the labeller scores by itself, where students learned from it."""
    alone = result.labeller_accuracy
    if alone is None or row.training_set not in CONDENSED:
        return ""
    return f", views labelled by its labeller ({100 * alone:.2f} % by itself)"


def trained_on(row: Row) -> str:
    """What students learned from, in words."""
    name = TRAINING_SETS.get(row.training_set, row.training_set)
    return name if row.augmented else f"{name}, not augmented"


def comparable(scores: Sequence[Score]) -> list[Score]:
    """Those measured on the test split, of students that saw all that the protocol says."""
    return [score for score in scores if score.augmented and not score.held_out]


def draw_accuracy(scores: Sequence[Score], published: Published | None, key: str) -> Markup | None:
    """Accuracy against bytes on a logarithmic axis; None where there is no score with bytes.

    Where all have the same bytes and nothing is published, one row for each score instead.

    Args:
        scores: of one data set.
        published: what papers state for it.
        key: prefix of ids, of its own on the page.
    """
    own = [score for score in scores if score.bytes is not None]
    full = [score for score in scores if score.bytes is None]
    if not own:
        return None
    methods = published.methods if published else ()
    sizes = {score.bytes for score in own}
    if len(sizes) == 1 and not methods and len({score.run for score in own}) == 1:
        return draw_rows([*own, *full], format_bytes(own[0].file_bytes), key)
    x, y = _scales(own, full, methods)
    root = picture(_WIDTH, _HEIGHT, key, "Accuracy against bytes", _describe(own, full, methods))
    axes(
        root,
        x,
        y,
        show_x=lambda v: format_bytes(round(v)),
        show_y="{:g} %".format,
        most_x=6,
        most_y=6,
    )
    label = {"x": (x.start + x.end) / 2, "y": _HEIGHT - 6, "text_anchor": "middle"}
    element(root, "text", "bytes on disk", class_="label", **label)
    for score in full:
        place = y(score.mean)
        line = element(root, "line", x1=x.start, x2=x.end, y1=place, y2=place, class_="full")
        element(line, "title", score.title)
    _draw_methods(root, methods, x, y)
    condensed = [score for score in own if not score.baseline]
    baselines = [score for score in own if score.baseline]
    levels = spread([y(score.mean) for score in baselines], _LABEL, y.end, y.start)
    for score, level in zip(baselines, levels, strict=True):
        _name(_draw_score(root, score, x, y), score.kind, x(score.bytes or 1), level, x)
    several = len({score.run for score in condensed}) > 1
    heights = spread([y(score.mean) for score in condensed], _LABEL, y.end, y.start)
    for score, height in zip(condensed, heights, strict=True):
        group = _draw_score(root, score, x, y)
        if several:
            _name(group, score.run, x(score.bytes or 1), height, x)
    return markup(root)


def _scales(
    own: Sequence[Score], full: Sequence[Score], methods: Sequence[Method]
) -> tuple[Scale, Scale]:
    points = [point for method in methods for point in method.points]
    sizes = [size for size, _ in points] + [score.bytes for score in own if score.bytes]
    values = [value for _, value in points]
    values += [score.mean + sign * score.std for score in (*own, *full) for sign in (-1, 1)]
    low, high = max(0.0, min(values) - 4), min(100.0, max(values) + 4)
    room = max(1.6, (_LEAST_RANGE * min(sizes) / max(sizes)) ** 0.5)
    right = _RIGHT if methods else _LEFT / 2
    x = Scale(min(sizes) / room, max(sizes) * room, _LEFT, _WIDTH - right, log=True)
    return x, Scale(low, high, _HEIGHT - _BOTTOM, _TOP)


def _draw_methods(root: Element, methods: Sequence[Method], x: Scale, y: Scale) -> None:
    """Published points with a line through those of a method, and its name at the right."""
    ends = [y(method.points[-1][1]) for method in methods]
    heights = spread(ends, _LABEL, _TOP, _HEIGHT - _BOTTOM)
    for method, end, height in zip(methods, ends, heights, strict=True):
        group = element(root, "g", class_="published")
        element(group, "title", f"{method.name}, arXiv {method.paper}")
        places = [(x(size), y(value)) for size, value in method.points]
        path(group, places, "line")
        for place in places:
            element(group, "circle", cx=place[0], cy=place[1], r=2.6)
        path(group, [(places[-1][0] + 4, end), (x.end + 6, height)], "leader")
        element(group, "text", method.name, x=x.end + 9, y=height + 4)


def _name(group: Element, name: str, left: float, height: float, x: Scale) -> None:
    """Beside the dot, on the side where there is more room."""
    after = left < (x.start + x.end) / 2
    place = left + 11 if after else left - 11
    anchor = "start" if after else "end"
    element(group, "text", short(name), x=place, y=height + 4, text_anchor=anchor)


def _draw_score(root: Element, score: Score, x: Scale, y: Scale) -> Element:
    """A dot with the standard deviation as a bar; a square for a baseline."""
    assert score.bytes is not None
    left, top = x(score.bytes), y(score.mean)
    group = element(root, "g", class_="baseline" if score.baseline else "own")
    element(group, "title", score.title)
    low, high = y(score.mean - score.std), y(score.mean + score.std)
    element(group, "line", x1=left, x2=left, y1=low, y2=high)
    if score.baseline:
        element(group, "rect", x=left - 4.5, y=top - 4.5, width=9, height=9)
    else:
        element(group, "circle", cx=left, cy=top, r=5.5)
    return group


def _describe(own: Sequence[Score], full: Sequence[Score], methods: Sequence[Method]) -> str:
    lines = [score.title for score in (*own, *full)]
    for method in methods:
        points = ", ".join(f"{value} % at {size:,} bytes" for size, value in method.points)
        lines.append(f"{method.name} as published: {points}")
    return "; ".join(lines) + "."
