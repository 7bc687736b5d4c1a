"""What the host waits for in a step: each wait lets the GPU run dry."""

from __future__ import annotations

from pathlib import Path

import pytest
from dry_runs import PATHS, SMALL_NETWORKS, PretendedDevice, Step

WAITS = ("h2d", "d2h", "sync")
SMALL = (
    *("--data", "digits", "--device", "cuda", "--set", "compile=off"),
    *(*SMALL_NETWORKS, "--bytes", "8KB", "--steps", "5", *PATHS),
)
# (kind, place) -> why the host may wait there
ALLOWED = {
    (
        "d2h",
        "store/dct.py _count",
    ): "every few steps the levels are counted, and coded sizes fitted",
}
# without the CUDA half of the extension only: its kernels wait for nothing
FALLBACK = "functional/reference.py"


def waits(steps: list[Step]) -> set[tuple[str, str, str]]:
    """(stage, kind, place) of all waits that are not allowed."""
    found = {
        (step.stage, kind, places[0] if places else f"{name} backward")
        for step in steps
        for kind, name, _, places in step.events
        if kind in WAITS and not (places and places[0].startswith(FALLBACK))
    }
    return {(stage, kind, place) for stage, kind, place in found if (kind, place) not in ALLOWED}


@pytest.mark.parametrize(
    "losses",
    ["", "--discrepancy mmd --discrepancy sliced_wasserstein --discrepancy mean"],
    ids=["default", "samples"],
)
def test_matching_trajectories_and_experts_wait_for_nothing(
    pretended: PretendedDevice, tmp_path: Path, losses: str
) -> None:
    steps = pretended.steps(
        tmp_path, "condense", "--out", tmp_path / "run", *SMALL, *losses.split()
    )
    stages = [step.stage for step in steps]
    assert stages.count("match") == 5
    assert stages.count("trajectory") == 2
    assert stages.count("epoch") == 2  # of the expert
    assert waits(steps) == set()
