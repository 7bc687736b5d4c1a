"""How parts of a run grow."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from benchmarks.growth import draw
from benchmarks.scaling import PARTS, exponent, growth


def test_exponents_of_powers() -> None:
    sizes = [10.0, 100.0, 1000.0]
    for power in (0.0, 0.5, 1.0, 2.0):
        seconds = [3.0 * size**power for size in sizes]
        np.testing.assert_allclose(exponent(sizes, seconds), power, atol=1e-12)


def test_a_picture_says_the_exponents() -> None:
    rows = [
        {"images": n, **{f"{name}_s": 2.0 * n**place for place, name in enumerate(PARTS)}}
        for n in (10, 40, 90)
    ]
    parts = growth(rows, "images")
    assert [round(part.exponent, 6) for part in parts] == [0, 1, 2, 3]
    root = ElementTree.fromstring(draw({"images": parts, "classes": parts}))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    for place, name in enumerate(PARTS):
        assert texts.count(f"{name}: {place:.2f}") == 2
    dots = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == 2 * len(PARTS) * (3 + 1)
