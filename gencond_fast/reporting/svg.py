"""Inline SVG: elements, and axes with their ticks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to pixels from `start` to `end`, evenly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = ((math.log(v) if self.log else v) for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values inside the scale."""
        return self._powers(most) if self.log else _round_steps(self.low, self.high, most)

    def _powers(self, most: int) -> list[float]:
        """Powers of ten, with twice and five times them where there is room."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        found: list[float] = []
        for parts in ((1, 2, 5), (1, 3), (1,)):
            values = [p * 10.0**power for power in range(first, last + 1) for p in parts]
            found = [value for value in values if self.low <= value <= self.high]
            if len(found) <= most + 2:
                break
        return found[:: max(1, math.ceil(len(found) / (most + 2)))]


def _round_steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most `most` of them and one."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(part * power for part in (1, 2, 5, 10) if part * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def element(parent: Element, tag: str, text: str | None = None, **attributes: object) -> Element:
    """Adds an element; `class_` and `stroke_width` stand for `class` and `stroke-width`."""
    named = {k.rstrip("_").replace("_", "-"): _plain(v) for k, v in attributes.items()}
    child = ElementTree.SubElement(parent, tag, named)
    child.text = text
    return child


def picture(width: int, height: int, key: str, title: str, description: str) -> Element:
    """An empty picture with a name and a description for those who cannot see it.

    Args:
        width: of the view box.
        height: likewise.
        key: prefix of ids, of its own on the page.
        title: the name.
        description: what there is to be seen.
    """
    labels = f"{key}-title {key}-desc"
    attributes = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-labelledby": labels}
    root = Element("svg", attributes)
    element(root, "title", title, id=f"{key}-title")
    element(root, "desc", description, id=f"{key}-desc")
    return root


def path(parent: Element, points: Sequence[tuple[float, float]], class_: str) -> None:
    """A line through points in pixels."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    element(parent, "polyline", points=places, class_=class_)


def axes(
    parent: Element,
    x: Scale,
    y: Scale,
    *,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
    most_x: int = 4,
    most_y: int = 4,
) -> None:
    """Grid lines and numbers for both scales; y grows upwards."""
    group = element(parent, "g", class_="axes", aria_hidden="true")
    for value in y.ticks(most_y):
        place = y(value)
        element(group, "line", x1=x.start, x2=x.end, y1=place, y2=place)
        element(group, "text", show_y(value), x=x.start - 6, y=place + 3.5, text_anchor="end")
    for value in x.ticks(most_x):
        place = x(value)
        element(group, "line", x1=place, x2=place, y1=y.start, y2=y.start + 4)
        element(group, "text", show_x(value), x=place, y=y.start + 17, text_anchor="middle")


def markup(root: Element) -> Markup:
    """The picture as HTML, everything in it escaped."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def without_control_characters(text: str) -> str:
    """Text with a mark in place of every character that HTML and XML must not hold."""
    return _CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
