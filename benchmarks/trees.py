"""Large trees of image files that take hardly any space."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 1000
LONG_AGO = 10**18  # ns; an index of a tree that has just changed is not kept

_ORIGINALS = 250  # a file may have 65,000 links on most file systems
_SIDES = (8, 17)


@contextmanager
def tree(files: int, within: Path | None = None) -> Iterator[Path]:
    """A folder of a thousand classes, hard links to a few hundred JPEGs of 8 to 16 pixels.

    Args:
        files: how many; a multiple of a thousand.
        within: where it is made; None is a place for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="gencond-tree-", dir=within) as place:
        originals = _originals(Path(place) / "originals")
        root = Path(place) / "tree"
        for label in range(CLASSES):
            folder = root / f"n{label:08d}"
            folder.mkdir(parents=True)
            for image in range(files // CLASSES):
                original = originals[(label + image) % _ORIGINALS]
                os.link(original, folder / f"{folder.name}_{image:05d}.JPEG")
            os.utime(folder, ns=(LONG_AGO, LONG_AGO))
        os.utime(root, ns=(LONG_AGO, LONG_AGO))
        yield root


def _originals(folder: Path) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    made = []
    for number in range(_ORIGINALS):
        height, width = rng.integers(*_SIDES, 2)
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG")
        made.append(folder / f"{number}.JPEG")
        made[-1].write_bytes(buffer.getvalue())
        os.utime(made[-1], ns=(LONG_AGO, LONG_AGO))
    return made
