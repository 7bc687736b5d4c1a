"""The feature map as a picture: a dot for a generated sample, a ring for a real image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from gencond_fast.reporting.features import FeatureMap
from gencond_fast.reporting.svg import Scale, element, markup, picture

_WIDTH, _HEIGHT, _EDGE = 560, 420, 14
_LABEL = 17  # pixels between two names, at least


def draw_map(found: FeatureMap, names: Sequence[str], key: str) -> Markup:
    """Draws a feature map; the name of each class stands at the centre of its samples.

    Args:
        found: the positions.
        names: of the classes.
        key: prefix of ids, of its own on the page.
    """
    shown = ", ".join(names[: found.classes])
    beside = f" and rings for {len(found.real)} real images" if len(found.real) else ""
    description = (
        f"Two principal components of features: dots for {len(found.generated)} stored samples"
        f"{beside} of {found.classes} classes ({shown})."
    )
    root = picture(_WIDTH, _HEIGHT, key, "Feature map", description)
    x, y = _scales(np.concatenate([found.generated, found.real]))
    kinds = (
        (found.real, found.real_labels, "ring", "real", 3.2),
        (found.generated, found.labels, "dot", "stored", 3.0),
    )
    for positions, labels, class_, kind, radius in kinds:
        for label in range(found.classes if len(positions) else 0):
            group = element(root, "g", class_=class_, style=f"--hue:{_hue(label, found.classes)}")
            element(group, "title", f"{names[label]}, {kind}")
            for place in positions[labels == label]:
                element(group, "circle", cx=x(place[0]), cy=y(place[1]), r=radius)
    centres = [found.generated[found.labels == c].mean(0) for c in range(found.classes)]
    heights = spread([y(centre[1]) for centre in centres], _LABEL, _EDGE, _HEIGHT - _EDGE)
    for label, (centre, height) in enumerate(zip(centres, heights, strict=True)):
        style = f"--hue:{_hue(label, found.classes)}"
        attributes = {"x": x(centre[0]), "y": height + 4, "text_anchor": "middle"}
        element(root, "text", short(names[label]), class_="name", style=style, **attributes)
    return markup(root)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves places as little as a sweep can so that neighbours are `gap` apart within two ends.

    Where there is no room for that, they are spaced evenly.
    """
    order = sorted(range(len(places)), key=lambda k: places[k])
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    moved: list[float] = []
    for rank, k in enumerate(order):
        least = moved[-1] + gap if moved else low
        most = high - gap * (len(order) - 1 - rank)
        moved.append(min(max(places[k], least), most))
    out = [0.0] * len(places)
    for k, place in zip(order, moved, strict=True):
        out[k] = place
    return out


def _scales(positions: np.ndarray) -> tuple[Scale, Scale]:
    low, high = positions.min(0), positions.max(0)
    x = Scale(float(low[0]), float(high[0]), _EDGE, _WIDTH - _EDGE)
    return x, Scale(float(low[1]), float(high[1]), _HEIGHT - _EDGE, _EDGE)


def _hue(label: int, classes: int) -> int:
    return round(360 * label / classes)


def short(name: str, most: int = 16) -> str:
    """A name that does not run across the picture: that many characters."""
    return name if len(name) <= most else name[: most - 1] + "…"
