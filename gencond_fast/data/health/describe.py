"""A description of a data set in numbers, without decoding it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from gencond_fast.data.classes import find_classes, select
from gencond_fast.data.contract import Opened, Split
from gencond_fast.data.decode import fetch, is_gray, open_image
from gencond_fast.data.formats.opening import open_data
from gencond_fast.data.health.badlist import read_bad_list
from gencond_fast.errors import InputError
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.words import counted

_PIECES = 250  # places of the split that headers are read at
_A_PIECE = 4  # images at each of them
_NAMED = 5


def open_parts(
    data: str, classes: Sequence[str] | None, label_column: str | None = None
) -> tuple[Opened, dict[str, Split]]:
    """Opens a data set as its container stores it, restricted to some classes.

    Returns:
        The data set, and its splits by their names, `train` first.

    Raises:
        InputError: the data cannot be used, or a class is not in it.
    """
    opened = open_data(data, label_column)
    splits = {"train": opened.train, **opened.tests}
    if classes is None:
        return opened, splits
    names, titles = opened.class_names, opened.titles
    kept = sorted(find_classes(classes, names, titles, data))
    chosen = {name: select(split, kept, len(names)) for name, split in splits.items()}
    part = replace(
        opened,
        class_names=tuple(names[label] for label in kept),
        train=chosen["train"],
        tests={name: chosen[name] for name in opened.tests},
        titles=None if titles is None else tuple(titles[label] for label in kept),
    )
    return part, chosen


def describe(
    data: str, classes: Sequence[str] | None = None, label_column: str | None = None
) -> dict[str, Any]:
    """Counts, classes and sizes of a data set, as nested dictionaries of plain values.

    Sizes, formats and colours come from the headers of a sample of the images.

    Raises:
        InputError: as `open_parts`.
    """
    opened, splits = open_parts(data, classes, label_column)
    shown = [_shown(opened, label) for label in range(min(_NAMED, len(opened.class_names)))]
    more = ", …" if len(opened.class_names) > _NAMED else ""
    about: dict[str, Any] = {
        "data": data,
        "classes": len(opened.class_names),
        "class names": ", ".join(shown) + more,
        "bytes": f"{opened.bytes:,} ({format_bytes(opened.bytes)})"
        + ("" if classes is None else ", all classes"),
    }
    about |= {name: _counts(opened, split.labels) for name, split in splits.items()}
    if len(splits) == 1:
        about["val"] = "none; --val-fraction sets a part of train aside"
    if len(opened.tests) > 1:
        about["tested on"] = f"{next(iter(opened.tests))}; --test-split chooses another"
    about |= {"note": "; ".join(opened.notes)} if opened.notes else {}
    about["images"] = _images(opened.train)
    return about | {"check": _checked(opened, classes)}


def _shown(opened: Opened, label: int) -> str:
    name = opened.class_names[label]
    return name if opened.titles is None else f"{name} ({opened.titles[label]})"


def _counts(opened: Opened, labels: np.ndarray) -> dict[str, Any]:
    counts = np.bincount(labels, minlength=len(opened.class_names))
    least, most = int(np.argmin(counts)), int(np.argmax(counts))
    ratio = f"{counts[most] / counts[least]:.3g}" if counts[least] else "-, a class is empty"
    return {
        "images": f"{len(labels):,}",
        "images per class": f"{np.median(counts):,g} (median)",
        "smallest class": f"{_shown(opened, least)}: {counts[least]:,}",
        "largest class": f"{_shown(opened, most)}: {counts[most]:,}",
        "imbalance, largest over smallest": ratio,
    }


def _images(split: Split) -> dict[str, Any]:
    if split.shape is not None:
        height, width, channels = split.shape
        return {
            "sampled": "all, they are arrays",
            "size": f"{width}x{height}",
            "colours": "gray" if channels == 1 else "RGB",
        }
    rows = _sample(split)
    sizes: list[tuple[int, int]] = []
    formats: Counter[str] = Counter()
    colours: Counter[str] = Counter()
    with closing(split.read(rows, _A_PIECE)) as blocks:
        for index, item in zip(rows.tolist(), chain.from_iterable(blocks), strict=False):
            where = split.where(index)
            try:
                image = open_image(fetch(item, where), where)
            except InputError:
                formats["unreadable"] += 1
                continue
            sizes.append(image.size)
            formats["JPEG" if image.format == "MPO" else str(image.format)] += 1
            colours["gray" if is_gray(image.mode) else image.mode] += 1
    widths, heights = zip(*sizes, strict=True) if sizes else ((), ())
    return {
        "sampled": f"{len(rows):,} headers of {len(split):,} training images",
        "width": _spread(widths),
        "height": _spread(heights),
        "formats": _shares(formats),
        "colours": _shares(colours),
    }


def _sample(split: Split) -> np.ndarray:
    """Ascending rows from all over the split, a few neighbours at each place."""
    edges = split.pieces()
    pieces = np.unique(np.linspace(0, len(edges) - 2, _PIECES).round().astype(np.int64))
    each = max(_A_PIECE, _A_PIECE * _PIECES // len(pieces))
    parts = [np.arange(edges[p], min(edges[p] + each, edges[p + 1])) for p in pieces]
    return np.concatenate(parts)


def _spread(values: Iterable[int]) -> str:
    found = np.array(list(values))
    if not len(found):
        return "-"
    return f"{found.min()} to {found.max()}, median {np.median(found):g}"


def _shares(found: Counter[str]) -> str:
    total = found.total()
    return ", ".join(f"{name} {100 * count / total:.3g} %" for name, count in found.most_common())


def _checked(opened: Opened, classes: Sequence[str] | None) -> str:
    found = read_bad_list(opened.digest, None if classes is None else opened.class_names)
    if found is None:
        return "never; run `gencond-fast data check`"
    return f"{len(found.bad):,} of {counted(found.checked, 'image')} cannot be read"
