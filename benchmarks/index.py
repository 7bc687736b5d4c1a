"""The index of a tree of image files: kept, scanned anew, and found by plain Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.case import Case
from benchmarks.trees import CLASSES, tree
from gencond_fast.data import open_source, stream
from gencond_fast.data.formats.index import read_index
from gencond_fast.data.formats.scan import scan

SIZES = (10_000, 100_000)

Paths = list[tuple[str, int, int]]


def cases() -> Iterator[Case]:
    """Trees of a thousand classes, hard links to small JPEGs, in the page cache.

    Memory beside the time is what the process takes more than before; divided by the number of
    files it is the cost of a file.

    Raises:
        AssertionError: a provider finds other files.
    """
    for files in SIZES:
        with tree(files) as root:
            expected = _pathlib(root)
            for index in (scan(root), read_index(root), read_index(root)):
                listing = index.listing
                found = [
                    (listing.path(row), int(index.sizes[row]), int(index.times[row]))
                    for row in range(len(listing))
                ]
                assert found == expected, "the files found differ"
            calls: dict[str, Callable[[], object]] = {
                "kept index": partial(read_index, root),
                "scan": partial(scan, root),
                "os.walk and os.stat": partial(_walk, root),
                "pathlib.rglob": partial(_pathlib, root),
                "kept index to first batch": partial(_first_batch, root),
            }
            yield Case({"files": files, "classes": CLASSES}, calls)


def _walk(root: Path) -> Paths:
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.stat(os.path.join(folder, name))
            path = f"{os.path.relpath(folder, root)}/{name}"
            found.append((path, status.st_size, status.st_mtime_ns))
    return sorted(found)


def _pathlib(root: Path) -> Paths:
    stated = ((path, path.stat()) for path in sorted(root.rglob("*.JPEG")))
    return [(str(p.relative_to(root)), s.st_size, s.st_mtime_ns) for p, s in stated]


def _first_batch(root: Path) -> object:
    source = open_source(str(root))
    return next(iter(stream(source.train, channels=3, image_size=32, batch_size=256)))
