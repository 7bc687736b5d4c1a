"""What was measured of a case: as a table for people, and as rows for the CSV file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping

import click
from rich.console import Console
from rich.table import Table

from benchmarks.case import Case
from benchmarks.timing import Timing
from gencond_fast.system.environment import describe

Measured = Mapping[str, Mapping[str, float | None]]
"""Further columns of each provider; that of its memory is peak_mb."""


def title(case: Case) -> str:
    """What tells the case from others, in a line."""
    return "  ".join(f"{key} {value}" for key, value in case.key.items())


def print_case(case: Case, timings: Mapping[str, Timing], measured: Measured) -> None:
    """A table of all providers, those that were left out at its end."""
    table = Table(title=title(case))
    columns = ["provider", "ms (median)", "quartiles", "times ours", "peak MB"]
    columns += ["of floor"] if case.floor_ms else []
    further = _further(measured)
    for column in [*columns, *case.yardsticks, *(name.replace("_", " ") for name in further)]:
        table.add_column(column, justify="left" if column == "provider" else "right")
    ours = next(iter(timings.values())).median if timings else None
    for provider, t in timings.items():
        table.add_row(
            provider,
            f"{t.median:.2f}",
            f"{t.lower:.2f} - {t.upper:.2f}",
            f"{t.median / ours:.2f}" if ours else "",
            _number(measured[provider].get("peak_mb"), 1),
            *([f"{case.floor_ms / t.median:.0%}"] if case.floor_ms else []),
            *(f"{share:.0%}" for share in _shares(case, timings, t).values()),
            *(_number(measured[provider].get(name), 3) for name in further),
        )
    for provider, reason in case.skipped.items():
        table.add_row(provider, "", reason)
    console = Console()
    # a file is as wide as the table wants
    console.width = console.width if console.is_terminal else max(80, 14 * len(table.columns))
    console.print(table)


def _further(measured: Measured) -> list[str]:
    names = dict.fromkeys(name for columns in measured.values() for name in columns)
    return [name for name in names if name != "peak_mb"]


def _shares(case: Case, timings: Mapping[str, Timing], timing: Timing | None) -> dict[str, float]:
    """The columns of the yardsticks; none for a provider that was not called."""
    if timing is None:
        return {}
    return {
        column: times * timings[other].median / timing.median
        for column, (other, times) in case.yardsticks.items()
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else str(round(value, digits))


def rows(
    name: str,
    case: Case,
    device: str,
    timings: Mapping[str, Timing],
    measured: Measured,
) -> list[dict[str, object]]:
    """A row of the CSV file for every provider, those that were left out as well."""
    same = {**case.columns, **surroundings(device)}
    return [
        {"benchmark": name, **case.key, "provider": provider}
        | _times(timings.get(provider), case.floor_ms)
        | {"peak_mb": ""}
        | {n: _number(v, 4) for n, v in measured.get(provider, {}).items()}
        | {n: _number(v, 4) for n, v in _shares(case, timings, timings.get(provider)).items()}
        | {"skipped": case.skipped.get(provider, "")}
        | same
        for provider in [*timings, *case.skipped]
    ]


def surroundings(device: str) -> dict[str, object]:
    """The columns that say what a result was measured on, and by which command."""
    environment = describe()
    machine, versions = environment["machine"], environment["versions"]
    kept = click.get_current_context().find_root().params["keep_memory"]
    return {
        "freed_memory": "kept" if kept else "",
        "device": machine["gpu"] if device == "cuda" else f"CPU {machine['cpu']}",
        "threads": machine["threads"],
        "versions": " ".join(f"{key}={value}" for key, value in versions.items()),
        "command": f"python -m benchmarks.run {shlex.join(sys.argv[1:])}",
    }


def _times(timing: Timing | None, floor_ms: float | None) -> dict[str, object]:
    of_floor = floor_ms / timing.median if timing and floor_ms else None
    return {
        "median_ms": _number(timing.median if timing else None, 4),
        "lower_ms": _number(timing.lower if timing else None, 4),
        "upper_ms": _number(timing.upper if timing else None, 4),
        "rounds": timing.rounds if timing else "",
        "floor_ms": _number(floor_ms, 5),
        "of_floor": _number(of_floor, 4),
    }
