"""A plan as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gencond_fast.system.bytes import format_bytes

if TYPE_CHECKING:
    from gencond_fast.planning import Forecast, Plan

_NAMES = {
    "start": "start, reading the sample",
    "networks": "feature networks",
    "bank": "statistics bank",
    "experts": "experts",
    "condensing": "condensing",
    "labels": "soft labels",
    "finish": "pictures and file",
    "evaluation": "evaluation",
}


def print_plan(plan: Plan) -> None:
    """The table of times, memory and bytes, and what they rest on."""
    possible = [each for each in plan.forecasts if each.refused is None]
    table = Table()
    table.add_column("phase")
    for each in possible:
        table.add_column(f"{each.devices} device{'s' if each.devices > 1 else ''}", justify="right")
    for name, shown in _NAMES.items():
        if any(each.phases.get(name) for each in possible):
            table.add_row(shown, *(format_time(each.phases[name]) for each in possible))
    table.add_section()
    table.add_row("together", *(format_time(sum(each.phases.values())) for each in possible))
    table.add_row("of it first steps, compilation", *(_compiling(each) for each in possible))
    if possible:
        console = Console()
        console.width = max(80, console.width)
        console.print(table)
    for each in plan.forecasts:
        if each.refused is not None:
            print(f"{each.devices} devices are refused: {each.refused}")
    print(
        f"file: {plan.bytes:,} bytes ({format_bytes(plan.bytes)}), {plan.classes} classes x "
        f"{plan.per_class} samples, {plan.bits_per_class:,.0f} bits per class"
    )
    for name, size in plan.memory.items():
        gpu = plan.device_memory[name]
        print(
            f"memory, {name}: {format_bytes(size)} a process"
            + (f", {format_bytes(gpu)} of the GPU" if gpu else "")
        )
    _print_basis(plan)


def format_time(seconds: float) -> str:
    """`3.2 s`, `12.5 min`, `7.4 h`, `3.1 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _compiling(forecast: Forecast) -> str:
    return format_time(sum(forecast.compiling.values()))


def _print_basis(plan: Plan) -> None:
    """What was measured and what was assumed."""
    print(
        f"calibrated here in {format_time(plan.seconds)} ({plan.runtime}); other devices are taken "
        "to be like this one, each with its own share of the cores"
    )
    if len(plan.forecasts) > 1:
        print(
            f"between ranks {format_bytes(plan.link)} a second are assumed (--link); memory of "
            "several devices is at most that of one"
        )
    print("as if no cache held networks, statistics or compiled code of an earlier run")
    for note in plan.notes:
        print(f"note: {note}")
