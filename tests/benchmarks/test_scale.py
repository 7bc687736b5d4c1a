"""Memory of a thousand classes and a hundred thousand files: what finding them takes, no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import readers, scale, trees
from benchmarks.scale import SCAN, report
from benchmarks.timing import Timing
from benchmarks.trees import tree
from gencond_fast.data.formats.index import read_index

BYTES_A_FILE = 200
SPARE = 8 * 2**20  # by which the same process differs from run to run


@pytest.mark.slow
@pytest.mark.parametrize("how", [SCAN, "threads"])
def test_memory_stays_flat(tmp_path: Path, how: str) -> None:
    peaks = {}
    for files in (10_000, 100_000):
        with tree(files, tmp_path) as root:
            read_index(root)
            found = report(root, how)
        assert found["images"] == files
        peaks[files] = found["peak_bytes"]
        print(f"{how}, {files:,} files: {peaks[files] / 1e6:.1f} MB at most")
    fewer, more = peaks
    assert peaks[more] - peaks[fewer] <= BYTES_A_FILE * (more - fewer) + SPARE


def test_growth_is_told_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "CLASSES", 10)
    monkeypatch.setattr(scale, "SIZES", (100, 300))
    monkeypatch.setattr(scale, "READERS", ("threads", "processes"))
    reasons = {"threads": None, "processes": "is missing"}
    monkeypatch.setattr(readers, "obstacle", reasons.get)
    peaks = {100: 10e6, 300: 10.05e6}

    def reported(root: Path, how: str) -> dict[str, float]:
        files = len(list(root.glob("*/*.JPEG")))
        return {
            "images": files,
            "first_batch_ms": 5,
            "stream_ms": 500,
            "peak_bytes": peaks[files],
        }

    monkeypatch.setattr(scale, "report", reported)
    told = []
    for case in scale.cases():
        assert list(case.providers) == ["gencond_fast (threads)", "scan"]
        assert case.skipped == {"gencond_fast (processes)": "is missing"}
        for call in case.providers.values():
            call()
        timings = {name: Timing(1.0, 1.0, 1.0, 1) for name in case.providers}
        assert case.measure is not None
        told.append(case.measure(timings)["gencond_fast (threads)"])
    assert [each["bytes_a_file"] for each in told] == [None, 250]
    assert [each["images_per_second"] for each in told] == [200, 600]


def test_a_stream_that_misses_images_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "CLASSES", 10)
    monkeypatch.setattr(scale, "SIZES", (100,))
    monkeypatch.setattr(scale, "report", lambda root, how: {"images": 99})
    (case,) = scale.cases()
    with pytest.raises(AssertionError, match="99 of 100"):
        case.providers["scan"]()
