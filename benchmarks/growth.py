"""A picture of how seconds grow with a size, both on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from gencond_fast.reporting.svg import Scale, axes, element, picture

_WIDTH, _HEIGHT = 360, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 20, 24, 84
_COLOURS = ("#3b7dd8", "#d9822b", "#2f9e63", "#a05cc8")
# readable on light and on dark pages
_STYLE = """
text { font: 11px sans-serif; fill: #808080; } .axes line { stroke: #80808055; }
polyline { fill: none; stroke-width: 2; }
"""


class Part(NamedTuple):
    """Seconds of a part of the work by size, and the slope of their logarithms."""

    name: str
    sizes: Sequence[float]
    seconds: Sequence[float]
    exponent: float


def draw(grown: Mapping[str, Sequence[Part]]) -> str:
    """An SVG with one panel for each size, by its name."""
    said = "; ".join(
        f"{part.name} over {over}: exponent {part.exponent:.2f}"
        for over, parts in grown.items()
        for part in parts
    )
    root = picture(_WIDTH * len(grown), _HEIGHT, "growth", "Seconds of the parts of a run", said)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    element(root, "style", _STYLE)
    for place, (over, parts) in enumerate(grown.items()):
        group = element(root, "g", transform=f"translate({place * _WIDTH} 0)")
        _panel(group, over, parts)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _panel(group: ElementTree.Element, over: str, parts: Sequence[Part]) -> None:
    sizes = [size for part in parts for size in part.sizes]
    seconds = [second for part in parts for second in part.seconds]
    x = Scale(min(sizes), max(sizes), _LEFT, _WIDTH - _RIGHT, log=True)
    y = Scale(min(seconds) / 1.3, max(seconds) * 1.3, _HEIGHT - _BOTTOM, _TOP, log=True)
    axes(group, x, y, show_x="{:,.0f}".format, show_y="{:g}".format)
    element(group, "text", f"seconds by number of {over}", x=_LEFT, y=_TOP - 10)
    for place, (part, colour) in enumerate(zip(parts, _COLOURS, strict=True)):
        points = [
            (x(size), y(second)) for size, second in zip(part.sizes, part.seconds, strict=True)
        ]
        element(
            group, "polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), stroke=colour
        )
        for across, down in points:
            element(group, "circle", cx=across, cy=down, r=3, fill=colour)
        left, top = _LEFT + (place % 2) * 150, _HEIGHT - _BOTTOM + 44 + 18 * (place // 2)
        element(group, "circle", cx=left, cy=top - 4, r=4, fill=colour)
        element(group, "text", f"{part.name}: {part.exponent:.2f}", x=left + 9, y=top)
