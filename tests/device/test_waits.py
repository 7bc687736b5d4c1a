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
# (kind, place): constants go up once; every few steps the levels are counted, for a fit to coded
# sizes on the CPU; and at the end of a part of an epoch the weights of an expert are taken down
ALLOWED = {
    ("h2d", "data/normalise.py _constants"),
    ("d2h", "store/dct.py _count"),
    ("d2h", "condensation/whole_split.py weights_of"),
}


def waits(steps: list[Step]) -> set[tuple[str, str, str]]:
    """(stage, kind, place) of all waits that are not allowed."""
    found = {
        (step.stage, kind, places[0] if places else f"{name} backward")
        for step in steps
        for kind, name, _, places in step.events
        if kind in WAITS and not (places and _only_here(kind, places[0]))
    }
    return {(stage, kind, place) for stage, kind, place in found if (kind, place) not in ALLOWED}


def _only_here(kind: str, place: str) -> bool:
    """Whether a GPU would not wait: ops without their CUDA code, and Triton's interpreter, do."""
    interpreted = kind != "sync" and place.startswith("kernels/")
    return interpreted or place.startswith("functional/reference.py")


@pytest.mark.parametrize(
    "losses",
    [
        "",
        "--discrepancy mmd --discrepancy sliced_wasserstein --discrepancy gradient "
        "--set losses.adversarial=0.1",
    ],
    ids=["default", "samples-and-adversary"],
)
def test_matching_trajectories_and_experts_wait_for_nothing(
    pretended: PretendedDevice, tmp_path: Path, losses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))  # an expert is trained
    steps = pretended.steps(
        tmp_path, "condense", "--out", tmp_path / "run", *SMALL, *losses.split()
    )
    stages = [step.stage for step in steps]
    assert stages.count("match") == 5
    assert stages.count("trajectory") == 2
    assert stages.count("epoch") == 2
    assert waits(steps) == set()
