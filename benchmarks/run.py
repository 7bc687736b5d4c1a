"""The one runner: checks that providers agree, times them in turns, writes a table and CSV."""

from __future__ import annotations

import csv
import shlex
import sys
from pathlib import Path
from types import ModuleType

import click
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import moments
from benchmarks.timing import Timing, time_in_turns
from gencond_fast.environment import describe

REGISTRY: dict[str, ModuleType] = {"moments": moments}

_RESULTS = Path(__file__).parent / "results"


@click.command()
@click.argument("name", type=click.Choice(list(REGISTRY)))
@click.option("--check", is_flag=True, help="Only check that all providers agree.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: PyTorch's own choice.")
@click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True)
def main(name: str, check: bool, threads: int | None, rounds: int) -> None:
    """Run the benchmark NAME; the first provider is ours, ratios are against it."""
    if threads:
        torch.set_num_threads(threads)
    rows: list[dict[str, object]] = []
    for case, providers in REGISTRY[name].cases():
        REGISTRY[name].check({provider: call() for provider, call in providers.items()})
        if not check:
            timings = time_in_turns(providers, rounds=rounds)
            _print(case, timings)
            rows += [_row(name, case, provider, t) for provider, t in timings.items()]
    if rows:
        _write(_RESULTS / f"{name}.csv", rows)


def _print(case: dict[str, object], timings: dict[str, Timing]) -> None:
    table = Table(title="  ".join(f"{key} {value}" for key, value in case.items()))
    for column in ("provider", "ms (median)", "quartiles", "times ours"):
        table.add_column(column, justify="left" if column == "provider" else "right")
    ours = next(iter(timings.values())).median
    for provider, t in timings.items():
        quartiles = f"{t.lower:.2f} - {t.upper:.2f}"
        table.add_row(provider, f"{t.median:.2f}", quartiles, f"{t.median / ours:.2f}")
    Console().print(table)


def _row(name: str, case: dict[str, object], provider: str, timing: Timing) -> dict[str, object]:
    environment = describe()
    machine, versions = environment["machine"], environment["versions"]
    return {
        "benchmark": name,
        **case,
        "provider": provider,
        "median_ms": round(timing.median, 4),
        "lower_ms": round(timing.lower, 4),
        "upper_ms": round(timing.upper, 4),
        "device": machine["gpu"] or f"CPU {machine['cpu']}",
        "threads": machine["threads"],
        "versions": " ".join(f"{key}={value}" for key, value in versions.items()),
        "command": f"python -m benchmarks.run {shlex.join(sys.argv[1:])}",
    }


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
