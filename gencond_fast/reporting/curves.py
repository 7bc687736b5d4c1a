"""Loss terms and speed over the steps as small charts."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from markupsafe import Markup

from gencond_fast.reporting.metrics import Curve, Metrics
from gencond_fast.reporting.svg import Scale, axes, element, markup, path, picture

_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 22, 26
_MOST_POINTS = 240  # of a line
_LOG_FROM = 10.0  # ratio of the largest value to the smallest
_SMOOTH = 1 / 12  # of the points, the window of the running mean


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: of what it shows.
        svg: the picture.
        note: scale, first and last value.
    """

    name: str
    svg: Markup
    note: str


def draw_curves(metrics: Metrics, key: str) -> list[Chart]:
    """A chart for each term of the loss, and one of the speed.

    Args:
        metrics: of one run.
        key: prefix of ids, of its own on the page.
    """
    charts = [
        _draw(name, curve, metrics.stages, f"{key}-{place}")
        for place, (name, curve) in enumerate(metrics.terms.items())
    ]
    if len(metrics.speed.steps):
        charts.append(_draw("images a second", metrics.speed, metrics.stages, f"{key}-speed"))
    return charts


def _draw(name: str, curve: Curve, stages: list[tuple[str, int]], key: str) -> Chart:
    smooth = running_mean(curve.values, max(1, round(len(curve.values) * _SMOOTH)))
    log = bool(curve.values.min() > 0 and curve.values.max() / curve.values.min() >= _LOG_FROM)
    x = Scale(0.0, float(curve.steps[-1]), _LEFT, _WIDTH - _RIGHT)
    low, high = _range(curve.values, log)
    y = Scale(low, high, _HEIGHT - _BOTTOM, _TOP, log)
    first, last = float(smooth[0]), float(smooth[-1])
    kind = f"{'logarithmic' if log else 'linear'} scale"
    note = f"{_show(first)} to {_show(last)}, {kind}"
    description = (
        f"Running mean from {_show(first)} at step {curve.steps[0]:,} to {_show(last)} at step "
        f"{curve.steps[-1]:,}; smallest value {_show(curve.values.min())}, largest "
        f"{_show(curve.values.max())}; {kind}."
    )
    root = picture(_WIDTH, _HEIGHT, key, f"{name} over the steps", description)
    axes(root, x, y, show_x="{:,.0f}".format, show_y="{:,.6g}".format)
    _draw_stages(root, stages, x, y)
    for class_, values in (("raw", curve.values), ("line", smooth)):
        kept = thin(values, _MOST_POINTS)
        points = [(x(s), y(v)) for s, v in zip(curve.steps[kept], values[kept], strict=True)]
        path(root, points, class_)
    if len(curve.values) == 1:
        element(root, "circle", cx=x(curve.steps[0]), cy=y(last), r=2.5, class_="dot")
    return Chart(name, markup(root), note)


def _draw_stages(root: Element, stages: list[tuple[str, int]], x: Scale, y: Scale) -> None:
    """A line where a stage begins after another, and the names of both."""
    if len(stages) < 2:
        return
    starts = [0, *(step for _, step in stages[1:])]
    for (name, _), step in zip(stages, starts, strict=False):
        if step > x.high:
            break
        place = x(step)
        if step:
            element(root, "line", x1=place, x2=place, y1=y.end, y2=y.start, class_="stage")
        element(root, "text", name, x=place + 3, y=y.end - 8, class_="stage-name")


def _range(values: np.ndarray, log: bool) -> tuple[float, float]:
    """The ends of an axis, with a little room."""
    low, high = float(values.min()), float(values.max())
    if log:
        return low / 1.15, high * 1.15
    room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return (0.0 if 0 <= low < 0.5 * high else low - room), high + room


def _show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Means of `values` [K] over `window` neighbours, of fewer at the ends: [K]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first = np.maximum(places - window // 2, 0)
    last = np.minimum(places + (window + 1) // 2, len(values))
    return (sums[last] - sums[first]) / (last - first)


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """Places of at most `most` of `values` [K], ends and extremes of each stretch among them."""
    if len(values) <= most:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), most // 2 - 1)
    extremes = [part[f(values[part])] for part in stretches for f in (np.argmin, np.argmax)]
    return np.unique([0, *extremes, len(values) - 1])
