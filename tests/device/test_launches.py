"""How many kernels a step launches on a GPU: the ceilings only ever go down.

A launch takes some microseconds, and the steps on small images consist of little else.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dry_runs import SMALL_NETWORKS, PretendedDevice
from launches import launches

# steps, and settings, of the size of those on 32 pixels; ops without their CUDA code count too
RUN = (
    *("--data", "digits", "--device", "cuda", "--set", "compile=on", "--set", "image_size=32"),
    *(*SMALL_NETWORKS, "--bytes", "8KB", "--steps", "4"),
    *("--set", "trajectory.steps=2", "--set", "trajectory.experts=1"),
    *("--set", "trajectory.epochs=2", "--set", "trajectory.max_start_epoch=1"),
)
CEILINGS = {"match": 270, "trajectory": 2260}


def test_steps_launch_no_more_kernels_than_before(
    pretended: PretendedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    # whatever a cache held was made of real numbers, and what is made here must not stay
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    record = tmp_path / "record.json"
    done = pretended.run(
        "--count-launches", "condense", "--out", tmp_path / "run", *RUN, record=record
    )
    # its numbers mean nothing, so that the file at the end is refused
    assert done.returncode in (0, 1), done.stderr[-3000:]
    found = json.loads(record.read_text())
    least: dict[str, int] = {}
    for stage, _, first, last in found["steps"]:
        count = sum(launches(found["events"][first:last]).values())
        # the first ones compile, and some weigh the file
        least[stage] = min(least.get(stage, count), count)
    assert {"match", "trajectory"} <= set(least), done.stderr[-3000:]
    assert {stage: least[stage] for stage, most in CEILINGS.items() if least[stage] > most} == {}
