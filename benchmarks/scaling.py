"""How the parts of a run grow with the number of images, and with that of classes.

    python -m benchmarks.scaling PHOTOGRAPHS --within FOLDER

Trees of `tests.robustness.looks` are condensed and evaluated, each in a process and with a cache of
its own. The exponent of a part is the slope of a line through the logarithms: 1 is linear.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.growth import Part, draw
from benchmarks.results import update
from benchmarks.watched import Finished, watch
from gencond_fast.system.environment import versions
from gencond_fast.system.files import write_text
from tests.robustness.looks import make

_RESULTS = Path(__file__).parent / "results" / "scaling.csv"
_PICTURE = Path(__file__).parents[1] / "docs" / "images" / "scaling.svg"
_TESTS = 2  # images of a class

# everything is a class's share or an image's: nothing is sized to the machine
OPTIONS = (
    *("--image-size", "32", "--ipc", "1", "--steps", "20", "--set", "compile=off"),
    *("--set", "store.per_class=4", "--set", "training.batch_per_class=4"),
    *("--set", "networks.width=32", "--set", "networks.random=1", "--set", "networks.trained=0"),
    *("--set", "networks.num_augmentations=1", "--set", "losses.cross_entropy=0"),
)
STUDENTS = ("--seeds", "1", "--epochs", "2")


class Size(NamedTuple):
    """A tree: so many classes of so many training images each."""

    classes: int
    per_class: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.classes * self.per_class


BY_IMAGES = (Size(1000, 10), Size(1000, 32), Size(1000, 100))
BY_CLASSES = (Size(10, 1000), Size(100, 100), Size(1000, 10))
PARTS = ("opening", "real statistics", "condense", "evaluate")


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of the straight line nearest to log(seconds) over log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(photographs: str, size: Size, within: Path) -> dict[str, Any]:
    """Seconds of each part, and peak memory, of one run on a tree that is made if it is not there.

    Raises:
        AssertionError: a command failed.
    """
    tree = within / f"looks-{size.classes}-{size.per_class}"
    if not tree.exists():
        make(photographs, tree, size.classes, size.per_class, _TESTS, seed=0)
    with tempfile.TemporaryDirectory(dir=within) as place:
        run, log = Path(place) / "run", Path(place) / "log"
        kept = {"GENCOND_FAST_CACHE": str(Path(place) / "cache")}
        condensed = _watch(["condense", "--data", tree, "--out", run, *OPTIONS], log, kept)
        evaluated = _watch(["evaluate", run, "--data", tree, *STUDENTS], log, kept)
    parts = condensed.parts()
    opening = next(line.seconds for line in condensed.lines if " images of " in line.text)
    first = next(iter(parts))
    seconds = {
        "opening": opening,
        first: parts[first] - opening,
        **{name: parts[name] for name in parts if name != first},
        "evaluate": evaluated.seconds,
    }
    return {
        "classes": size.classes,
        "images": size.images,
        **{f"{name}_s": round(seconds[name], 2) for name in PARTS},
        "peak_rss_mb": round(max(condensed.peaks) / 1e6),
    }


def _watch(arguments: Sequence[object], log: Path, environment: dict[str, str]) -> Finished:
    command = [sys.executable, "-m", "gencond_fast", *map(str, arguments)]
    done = watch(command, log, environment=environment)
    assert done.code == 0, done.lines[-3:]
    return done


def growth(rows: Sequence[dict[str, Any]], over: str) -> list[Part]:
    """How each part grows over `images` or `classes`, of rows in which nothing else differs."""
    sizes = [row[over] for row in rows]
    found = []
    for name in PARTS:
        seconds = [row[f"{name}_s"] for row in rows]
        found.append(Part(name, sizes, seconds, exponent(sizes, seconds)))
    return found


@click.command()
@click.argument("photographs")
@click.option(
    "--within",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder for the trees, which are kept.",
)
def main(photographs: str, within: Path) -> None:
    """Measure runs on trees made of PHOTOGRAPHS, and draw how their parts grow."""
    command = f"python -m benchmarks.scaling {Path(photographs).name}"
    same = {"cores": os.cpu_count(), "command": command}
    same["versions"] = " ".join(f"{name}={version}" for name, version in versions().items())
    measured = {size: measure(photographs, size, within) for size in {*BY_IMAGES, *BY_CLASSES}}
    update(_RESULTS, [measured[size] | same for size in sorted(measured)])
    grown = {
        "images": growth([measured[size] for size in BY_IMAGES], "images"),
        "classes": growth([measured[size] for size in BY_CLASSES], "classes"),
    }
    write_text(_PICTURE, draw(grown))
    exponents = {over: {p.name: round(p.exponent, 2) for p in grown[over]} for over in grown}
    click.echo(json.dumps(exponents, indent=2))


if __name__ == "__main__":
    main()
