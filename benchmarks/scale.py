"""Trees of many files, scanned and streamed whole: time and memory by the number of files.

Every call is a process of its own, so that its memory is its own: run this file for one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import readers
from benchmarks.case import Case
from benchmarks.timing import Timing
from benchmarks.trees import CLASSES, tree
from gencond_fast.data import open_source
from gencond_fast.data.formats.index import read_index
from gencond_fast.data.formats.scan import scan
from gencond_fast.data.readers.batch import Form, in_order
from gencond_fast.system.memory import peak_memory

SIZES = (10_000, 100_000)
READERS = ("threads", "dali")
SCAN = "scan"

_SIDE, _BATCH, _WORKERS = 16, 256, 2

Report = dict[str, float]


def cases() -> Iterator[Case]:
    """Trees of a thousand classes, in the page cache, their index kept.

    Memory by file is what a process takes more than with the smallest tree.

    Raises:
        AssertionError: a stream gives another number of images.
    """
    before: dict[str, tuple[int, float]] = {}
    obstacles = {name: readers.obstacle(name) for name in READERS}
    names = [name for name in READERS if not obstacles[name]]
    for files in SIZES:
        with tree(files) as root:
            read_index(root)
            reports: dict[str, list[Report]] = defaultdict(list)
            yield Case(
                {"files": files, "classes": CLASSES, "size": _SIDE, "batch": _BATCH},
                {
                    _title(name): partial(_report, root, files, name, reports[name])
                    for name in (*names, SCAN)
                },
                {_title(name): reason for name, reason in obstacles.items() if reason},
                columns={"workers": _WORKERS},
                measure=partial(_measured, files, reports, before),
            )


def report(root: Path, how: str) -> Report:
    """Scans a tree, or streams all of it with one of our readers, in a process of its own.

    Returns:
        images: how many there are.
        first_batch_ms: from imported modules to the first batch; of a scan, to its end.
        peak_bytes: the most memory that was in use.
    """
    command = [sys.executable, "-m", "benchmarks.scale", str(root), how]
    place = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=place, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _title(name: str) -> str:
    return name if name == SCAN else f"gencond_fast ({name})"


def _report(root: Path, files: int, how: str, reports: list[Report]) -> None:
    reports.append(report(root, how))
    assert reports[-1]["images"] == files, f"{how}: {reports[-1]['images']} of {files} images"


def _measured(
    files: int,
    reports: Mapping[str, list[Report]],
    before: dict[str, tuple[int, float]],
    timings: Mapping[str, Timing],
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for name, made in reports.items():
        first, stream, peak = (
            statistics.median(each[column] for each in made)
            for column in ("first_batch_ms", "stream_ms", "peak_bytes")
        )
        fewer, less = before.setdefault(name, (files, peak))
        found[_title(name)] = {
            "peak_mb": round(peak / 1e6, 1),
            "bytes_a_file": round((peak - less) / (files - fewer), 1) if files > fewer else None,
            "first_batch_ms": round(first, 1),
            "images_per_second": round(1e3 * files / stream, 1),
        }
    return found


def _work(root: Path, how: str) -> Report:
    start = time.perf_counter()
    if how == SCAN:
        images, first = len(scan(root).listing), time.perf_counter()
    else:
        images, first = _stream(root, how)
    end = time.perf_counter()
    return {
        "images": images,
        "first_batch_ms": 1e3 * (first - start),
        "stream_ms": 1e3 * (end - start),
        "peak_bytes": peak_memory(),
    }


def _stream(root: Path, name: str) -> tuple[int, float]:
    split = open_source(str(root)).train
    images, first = 0, 0.0
    with in_order(split.split, np.arange(len(split)), _BATCH) as pairs:
        for batch in readers.find(name)(split, Form(3, _SIDE), pairs, _WORKERS):
            first = first or time.perf_counter()
            images += len(batch.indices)
    return images, first


if __name__ == "__main__":
    print(json.dumps(_work(Path(sys.argv[1]), sys.argv[2])))
