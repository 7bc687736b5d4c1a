"""A plan as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gencond_fast.system.bytes import format_bytes

if TYPE_CHECKING:
    from gencond_fast.planning import Plan

_NAMES = {
    "start": "start, reading the sample",
    "networks": "feature networks",
    "bank": "statistics bank",
    "experts": "experts",
    "condensing": "condensing",
    "labels": "soft labels or labeller",
    "finish": "pictures and file",
    "closing check": "closing check, at most",
    "evaluation": "evaluation",
}


def print_plan(plan: Plan) -> None:
    """Times, memory and bytes, and what they rest on."""
    for name, shown in _NAMES.items():
        if plan.seconds.get(name):
            print(f"{shown:<28}{format_time(plan.seconds[name]):>12}")
    print(f"{'total':<28}{format_time(sum(plan.seconds.values())):>12}")
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
    print(
        f"calibrated here in {format_time(plan.calibration)} ({plan.runtime}), as if the cache "
        "were empty"
    )
    for note in plan.notes:
        print(f"note: {note}")


def format_time(seconds: float) -> str:
    """`3.2 s`, `12.5 min`, `7.4 h`, `3.1 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
