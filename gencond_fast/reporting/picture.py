"""The charts of accuracies as one PNG, for places that show no page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import resvg_py
from markupsafe import Markup
from PIL import ImageFont

from gencond_fast.reporting.svg import element, markup, without_control_characters

PICTURE_NAME = "accuracy.png"
_ZOOM = 2
_MARGIN = 24
_HEAD, _FOOT = 52, 44  # pixels above a chart and below it
_TITLE_SIZE, _TEXT_SIZE = 16, 11.5
_KEYS = {
    "own": "condensed files",
    "baseline": "baselines at the same budget",
    "full": "all real images",
    "published": "as published",
}


def accuracy_png(charts: Sequence[tuple[str, Markup]]) -> bytes:
    """Draws charts one above another, each with its name and a key, in light colours.

    Their text has a font that comes with Pillow, and those of the system where it lacks a
    character.

    Args:
        charts: names, and inline SVG as `draw_accuracy` makes it.

    Returns:
        A PNG with two pixels for each unit of the charts.
    """
    font = ImageFont.load_default(_TEXT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "chart"})
    root.set("font-family", str(font.getname()[0]))
    root.set("font-size", str(_TEXT_SIZE))
    width, top = 0.0, 0.0
    for name, chart in charts:
        inner = ElementTree.fromstring(without_control_characters(chart))
        wide, high = map(float, inner.attrib["viewBox"].split()[2:])
        _add(root, name, inner, top, high, font)
        width, top = max(width, wide + 2 * _MARGIN), top + _HEAD + high + _FOOT
    root.set("width", str(width))
    root.set("height", str(top))
    colours, rules = _style()
    with TemporaryDirectory() as folder:
        file = Path(folder, "font.ttf")
        file.write_bytes(font.font_bytes)
        return bytes(
            resvg_py.svg_to_bytes(
                svg_string=without_control_characters(markup(root)),
                background=colours["paper"],
                zoom=_ZOOM,
                style_sheet=rules,
                font_files=[str(file)],
            )
        )


def _add(
    root: Element,
    name: str,
    chart: Element,
    top: float,
    height: float,
    font: ImageFont.FreeTypeFont,
) -> None:
    """One chart, from `top` on: its name, itself, its key."""
    group = element(root, "g", transform=f"translate({_MARGIN} {top})")
    ink = f"fill:{_style()[0]['ink']}"
    element(group, "text", name, x=0, y=28, font_size=_TITLE_SIZE, style=ink)
    text = "Accuracy on the test split against bytes; bars: one standard deviation over seeds"
    element(group, "text", text, x=0, y=46)
    element(group, "g", transform=f"translate(0 {_HEAD})").extend(chart)
    left = 8.0
    for kind, meaning in _KEYS.items():
        if chart.find(f".//*[@class='{kind}']") is not None:
            _add_key(group, kind, left, _HEAD + height + 18)
            element(group, "text", meaning, x=left + 14, y=_HEAD + height + 22)
            left += font.getlength(meaning) + 38


def _add_key(parent: Element, kind: str, x: float, y: float) -> None:
    """The mark that a kind of score has in the chart."""
    if kind == "full":
        element(parent, "line", x1=x - 9, x2=x + 9, y1=y, y2=y, class_=kind)
        return
    group = element(parent, "g", class_=kind)
    if kind == "baseline":
        element(group, "rect", x=x - 4.5, y=y - 4.5, width=9, height=9)
    else:
        element(group, "circle", cx=x, cy=y, r=5.5 if kind == "own" else 2.6)


@cache
def _style() -> tuple[dict[str, str], str]:
    """The page's light colours by name, and its rules for charts with these filled in."""
    file = resources.files("gencond_fast.reporting").joinpath("templates/style.css")
    text = file.read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): ([^;]+);", text.partition("}")[0]))
    rules = "\n".join(re.findall(r"^\.chart .*", text, re.MULTILINE))
    return colours, re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], rules)
