"""A thousand classes from scan to evaluated file, on two ranks, killed three times on the way.

    python -m tests.robustness.looks PHOTOGRAPHS TREE
    python -m tests.robustness.thousand TREE OUT

Every start of `condense` is the same command. SIGKILL hits all its processes at once: in the
middle of the real statistics, and at a third and two thirds of the steps. The file must come out,
and at most a checkpoint's interval of steps is done twice.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.results import update
from benchmarks.watched import Finished, Line, watch
from gencond_fast.system.environment import describe, versions

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "thousand.csv"
KILLS = (("real statistics", 0.5), ("matching", 1 / 3), ("matching", 2 / 3))

# a coefficient takes 16 bytes while it is learned, so that not as many are kept as by default
OPTIONS = (
    *("--image-size", "64", "--ipc", "1", "--preset", "quick"),
    *("--set", "networks.model=convnet4", "--set", "networks.random=1"),
    *("--set", "networks.trained=2", "--set", "networks.num_augmentations=1"),
    *("--set", "store.per_class=32", "--set", "store.coefficients=2304"),
    *("--set", "training.steps=300", "--set", "training.class_batch=100"),
    *("--set", "training.batch_per_class=4", "--set", "training.checkpoint_every=20"),
    *("--set", "labels.labeller=0"),
)
STUDENTS = ("--protocol", "modern", "--model", "convnet4", "--seeds", "2", "--epochs", "4")


@dataclass(frozen=True)
class Job:
    """Where everything is, and on how many ranks it is done."""

    tree: Path
    out: Path
    ranks: int

    def condense(self) -> list[str]:
        """The command, which is the same at every start."""
        return self._ranked("condense", "--data", self.tree, "--out", self.out / "run", *OPTIONS)

    def evaluate(self) -> list[str]:
        """The command that trains students of the file."""
        json_file = self.out / "evaluation.json"
        given = (self.out / "run", "--data", self.tree, *STUDENTS, "--json", json_file)
        return self._ranked("evaluate", *given)

    def _ranked(self, *arguments: object) -> list[str]:
        start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", self.ranks)
        return [str(each) for each in (sys.executable, *start, "-m", "gencond_fast", *arguments)]


def at(name: str, share: float) -> Callable[[Line], bool]:
    """Whether a line says that a part of the job is done to such a share, but not to its end."""

    def reached(line: Line) -> bool:
        found, done, total = line.progress or ("", 0, 1)
        return found == name and share <= done / total < 1

    return reached


def run(job: Job) -> list[dict[str, Any]]:
    """Condenses through all kills, evaluates, and returns a row for each start.

    Raises:
        AssertionError: a kill did not hit, or a start did not come to its end.
    """
    log, rows = job.out / "log", []
    for kill in (*KILLS, None):
        done = watch(job.condense(), log, at(*kill) if kill else None)
        assert (done.code == 0) == (kill is None), (kill, done.code, done.lines[-3:])
        rows.append(_row("condense", done, f"{kill[0]} {kill[1]:.0%}" if kill else ""))
    done = watch(job.evaluate(), log)
    assert done.code == 0, done.lines[-3:]
    found = json.loads((job.out / "evaluation.json").read_text())["rows"][0]
    rows.append(_row("evaluate", done, "") | {"accuracy": found["mean"], "std": found["std"]})
    return rows


def _row(phase: str, done: Finished, killed: str) -> dict[str, Any]:
    resumed = [line.text for line in done.lines if line.text.startswith("resuming at step ")]
    return {
        "phase": phase,
        "killed_at": killed,
        "went_on_from_step": int(resumed[0].split()[-1]) if resumed else 0,
        "seconds": round(done.seconds, 1),
        **{f"{name}_s": round(seconds, 1) for name, seconds in done.parts().items()},
        "peak_rss_mb": round(max(done.peaks, default=0) / 1e6),
        "last_step": max((p[1] for p in _steps(done)), default=0),
    }


def _steps(done: Finished) -> list[tuple[str, int, int]]:
    found = (line.progress for line in done.lines)
    return [progress for progress in found if progress and progress[0] == "condense"]


@click.command()
@click.argument("tree", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, exists=False))
@click.option("--ranks", type=click.IntRange(min=1), default=2, show_default=True)
def main(tree: Path, out: Path, ranks: int) -> None:
    """Condense the thousand classes of TREE into OUT, and evaluate the file."""
    out.mkdir(parents=True)
    images = sum(len(files) for _, _, files in os.walk(tree / "train"))
    rows = run(Job(tree, out, ranks))
    command = f"python -m tests.robustness.thousand {tree.name} {out.name} --ranks {ranks}"
    same = {"images": images, "ranks": ranks, "device": f"CPU {describe()['machine']['cpu']}"}
    same |= {"cores": os.cpu_count(), "command": command}
    same["versions"] = " ".join(f"{name}={version}" for name, version in versions().items())
    for row in rows:
        print(row)
    update(_RESULTS, [row | same for row in rows])


if __name__ == "__main__":
    main()
