"""A picture of errors against bytes of an image, one panel for each data set and size.

python -m benchmarks.codec_picture
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gencond_fast.reporting.svg import Scale, axes, element, picture
from gencond_fast.system.files import write_text

_RESULTS = Path(__file__).parent / "results" / "codec.csv"
_PICTURE = Path(__file__).parents[1] / "docs" / "images" / "codecs.svg"
_WIDTH, _HEIGHT = 340, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 24, 96
_ROWS, _COLUMN, _LINE = 3, 230, 18  # of the key
# ours are strong, rivals are thin
_LOOKS = {
    "generator": ("#3b7dd8", 3.0),
    "dct": ("#2f9e63", 3.0),
    "avif 4:4:4, speed 0, for the error": ("#d9822b", 1.8),
    "avif 4:4:4, speed 0": ("#c0504d", 1.8),
    "avif 4:2:0, speed 0": ("#a05cc8", 1.2),
    "avif 4:2:0, speed 6": ("#b58fd0", 1.2),
    "webp": ("#8a7a4a", 1.2),
    "jpeg": ("#808080", 1.2),
}
# readable on light and on dark pages
_STYLE = """
text { font: 11px sans-serif; fill: #808080; } .axes line { stroke: #80808055; }
polyline { fill: none; }
"""
Row = dict[str, str]


def draw(rows: Sequence[Row]) -> str:
    """An SVG of rows of the benchmark `codec`, those that were left out not counted."""
    measured = [row for row in rows if not row.get("skipped")]
    panels: dict[tuple[str, str, str], list[Row]] = {}
    for row in measured:
        panels.setdefault((row["data"], row["image_size"], row["images"]), []).append(row)
    said = "; ".join(
        f"{row['codec']} on {row['data']} at {row['image_size']} pixels: "
        f"{float(row['psnr_db']):.1f} dB at {float(row['bytes_per_image']):.0f} bytes"
        for row in measured
    )
    title = "Peak signal-to-noise ratio against bytes of an image"
    root = picture(_WIDTH * len(panels), _HEIGHT, "codecs", title, said)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    element(root, "style", _STYLE)
    for place, (named, part) in enumerate(panels.items()):
        group = element(root, "g", transform=f"translate({place * _WIDTH} 0)")
        _panel(group, named, part)
    found = {row["codec"] for row in measured}
    for place, name in enumerate(name for name in _LOOKS if name in found):
        colour, width = _LOOKS[name]
        left = _LEFT + place // _ROWS * _COLUMN
        top = _HEIGHT - _BOTTOM + 48 + _LINE * (place % _ROWS)
        line: dict[str, Any] = {"x1": left, "x2": left + 18, "y1": top - 4, "y2": top - 4}
        element(root, "line", **line, stroke=colour, stroke_width=width)
        element(root, "text", name, x=left + 24, y=top)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _panel(group: ElementTree.Element, named: tuple[str, str, str], rows: Sequence[Row]) -> None:
    data, side, images = named
    sizes = [float(row["bytes_per_image"]) for row in rows]
    ratios = [float(row["psnr_db"]) for row in rows]
    x = Scale(min(sizes) / 1.1, max(sizes) * 1.1, _LEFT, _WIDTH - _RIGHT, log=True)
    y = Scale(min(ratios) - 0.5, max(ratios) + 0.5, _HEIGHT - _BOTTOM, _TOP)
    axes(group, x, y, show_x="{:,.0f} B".format, show_y="{:g} dB".format)
    title = f"{data}, {side} pixels, {int(images):,} images"
    element(group, "text", title, x=_LEFT, y=_TOP - 10)
    for name, (colour, width) in _LOOKS.items():
        places = sorted(
            (x(size), y(ratio))
            for size, ratio, row in zip(sizes, ratios, rows, strict=True)
            if row["codec"] == name
        )
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        if places:
            element(group, "polyline", points=points, stroke=colour, stroke_width=width)
        for across, down in places:
            element(group, "circle", cx=across, cy=down, r=width, fill=colour)


if __name__ == "__main__":
    with _RESULTS.open(newline="", encoding="utf-8") as opened:
        write_text(_PICTURE, draw(list(csv.DictReader(opened))))
