"""Accuracies of files and baselines of one size: a row for each, where bytes would be one place."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from markupsafe import Markup

from gencond_fast.reporting.score import Score
from gencond_fast.reporting.svg import Scale, element, markup, picture

_WIDTH, _ROW, _TOP, _BOTTOM = 540, 26, 14, 42
_LEFT, _RIGHT = 196, 20
_LEAST_ROOM = 4.0  # per cent beside the lowest and the highest accuracy


def draw_rows(scores: Sequence[Score], size: str, key: str) -> Markup:
    """A dot on a scale of accuracy for each score, with its standard deviation and its name.

    Args:
        scores: of files and baselines of one size, and of all real images.
        size: the bytes, as they are told.
        key: prefix of ids, of its own on the page.
    """
    height = _TOP + _ROW * len(scores) + _BOTTOM
    ends = [score.mean + sign * score.std for score in scores for sign in (-1, 1)]
    low, high = max(0.0, min(ends) - _LEAST_ROOM), min(100.0, max(ends) + _LEAST_ROOM)
    x = Scale(low, high, _LEFT, _WIDTH - _RIGHT)
    told = "; ".join(score.title for score in scores)
    root = picture(_WIDTH, height, key, "Accuracy", f"{told}.")
    bottom = _TOP + _ROW * len(scores)
    group = element(root, "g", class_="axes", aria_hidden="true")
    for value in x.ticks(6):
        place = x(value)
        element(group, "line", x1=place, x2=place, y1=_TOP, y2=bottom)
        element(group, "text", f"{value:g} %", x=place, y=bottom + 17, text_anchor="middle")
    label = {"x": (x.start + x.end) / 2, "y": height - 6, "text_anchor": "middle"}
    element(root, "text", f"accuracy; file and baselines in {size}", class_="label", **label)
    for place, score in enumerate(scores):
        _draw_row(root, score, x, _TOP + _ROW * (place + 0.5))
    return markup(root)


def _draw_row(root: Element, score: Score, x: Scale, y: float) -> None:
    kind = {} if score.full else {"class_": "baseline" if score.baseline else "own"}
    group = element(root, "g", **kind)
    element(group, "title", score.title)
    element(group, "text", score.mark, x=_LEFT - 12, y=y + 4, text_anchor="end")
    ends = [x(score.mean + sign * score.std) for sign in (-1, 1)]
    centre = x(score.mean)
    if score.full:  # not at the budget, so it has the dashed line of other charts, not a square
        element(group, "line", x1=centre, x2=centre, y1=y - 10, y2=y + 10, class_="full")
        return
    element(group, "line", x1=ends[0], x2=ends[1], y1=y, y2=y)
    if score.baseline:
        element(group, "rect", x=centre - 4.5, y=y - 4.5, width=9, height=9)
    else:
        element(group, "circle", cx=centre, cy=y, r=5.5)
