"""The one runner: checks that providers agree, times them in turns, writes a table and CSV."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import channels as channel_benchmark
from benchmarks import index as index_benchmark
from benchmarks import losses as loss_benchmark
from benchmarks import moments as moment_benchmark
from benchmarks import step as step_benchmark
from benchmarks.case import Case
from benchmarks.memory import peak_mb
from benchmarks.results import update
from benchmarks.timing import Timing, time_in_turns
from gencond_fast.environment import describe
from gencond_fast.memory import keep_freed_memory

_RESULTS = Path(__file__).parent / "results"


@click.group()
@click.option(
    "--keep-memory",
    is_flag=True,
    help="Keep freed memory for the next tensors, as condense and evaluate do; without it large "
    "results are measured with the page faults of new memory, as PyTorch has them by default.",
)
def main(keep_memory: bool) -> None:
    """Run a benchmark; the first provider is ours, ratios are against it."""
    if keep_memory and not keep_freed_memory():
        raise click.ClickException("this C library cannot be told to keep freed memory")


def _common(command: Callable[..., None]) -> Callable[..., None]:
    options = (
        click.option("--check", is_flag=True, help="Only check that all providers agree."),
        click.option("--threads", type=click.IntRange(min=1), help="Default: PyTorch's choice."),
        click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_common
@click.option(
    "--grid", type=click.Choice(list(moment_benchmark.GRIDS)), default="quick", show_default=True
)
@click.option("--width", type=int, multiple=True, help="Only these D of the grid.")
@click.option("--time-limit", type=float, default=20.0, show_default=True, help="Seconds a call.")
def moments(
    check: bool,
    threads: int | None,
    rounds: int,
    grid: str,
    width: tuple[int, ...],
    time_limit: float,
) -> None:
    """Class moments on a CPU, forward and with their gradients."""
    settings = [
        (shape, ordered)
        for shape, ordered in moment_benchmark.GRIDS[grid]
        if shape.width in (width or (shape.width,))
    ]
    cases = moment_benchmark.cases(settings, time_limit)
    _run("moments", cases, "cpu", check, threads, rounds)


@main.command()
@_common
@click.option("--data", required=True, help="Path or name of a data set.")
@click.option("--ipc", type=click.IntRange(min=1), default=10, show_default=True)
@click.option(
    "--generated",
    type=click.IntRange(min=1),
    multiple=True,
    default=(10, 32),
    show_default=True,
    help="Generated images of a class in a step; may be given several times.",
)
def step(
    check: bool,
    threads: int | None,
    rounds: int,
    data: str,
    ipc: int,
    generated: tuple[int, ...],
) -> None:
    """One matching step: real statistics from the table, or from real batches."""
    _run("step", step_benchmark.cases(data, ipc, generated), "cpu", check, threads, rounds)


@main.command()
@_common
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def channels(check: bool, threads: int | None, rounds: int, device: str) -> None:
    """Channel moments and batch-norm matching."""
    _run("channels", channel_benchmark.cases(device), device, check, threads, rounds)


@main.command()
@_common
def index(check: bool, threads: int | None, rounds: int) -> None:
    """The index of a tree of image files."""
    _run("index", index_benchmark.cases(), "cpu", check, threads, rounds)


@main.command()
@_common
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(loss_benchmark.KINDS),
    multiple=True,
    help="May be given several times; default: all.",
)
@click.option(
    "--grid", type=click.Choice(list(loss_benchmark.GRIDS)), default="quick", show_default=True
)
@click.option("--samples", type=int, multiple=True, help="Only these N of the grid.")
@click.option("--width", type=int, multiple=True, help="Only these D of the grid.")
@click.option("--memory-limit", type=float, help="GB; default: 16, or most of a GPU's.")
@click.option("--time-limit", type=float, default=20.0, show_default=True, help="Seconds a call.")
def losses(
    check: bool,
    threads: int | None,
    rounds: int,
    device: str,
    kinds: tuple[str, ...],
    grid: str,
    samples: tuple[int, ...],
    width: tuple[int, ...],
    memory_limit: float | None,
    time_limit: float,
) -> None:
    """Intra- and inter-class losses, forward and with their gradients."""
    limits = loss_benchmark.Limits(memory_limit, time_limit)
    shapes = [
        shape
        for shape in loss_benchmark.GRIDS[grid]
        if shape.samples in (samples or (shape.samples,))
        and shape.width in (width or (shape.width,))
    ]
    cases = loss_benchmark.cases(shapes, kinds or loss_benchmark.KINDS, device, limits)
    _run("losses", cases, device, check, threads, rounds)


def _run(
    name: str, cases: Iterable[Case], device: str, check: bool, threads: int | None, rounds: int
) -> None:
    if threads:
        torch.set_num_threads(threads)
    for case in cases:
        if check:
            print("agreed:", _title(case), flush=True)
            continue
        timings = time_in_turns(case.providers, rounds=rounds)
        peaks = {provider: peak_mb(call, device) for provider, call in case.providers.items()}
        _print(case, timings, peaks)
        # after every case, so that an interrupted run keeps what it has
        update(_RESULTS / f"{name}.csv", _rows(name, case, device, timings, peaks))


def _title(case: Case) -> str:
    return "  ".join(f"{key} {value}" for key, value in case.key.items())


def _print(case: Case, timings: dict[str, Timing], peaks: dict[str, float | None]) -> None:
    table = Table(title=_title(case))
    columns = ["provider", "ms (median)", "quartiles", "times ours", "of floor", "peak MB"]
    for column in [*columns, *case.yardsticks]:
        table.add_column(column, justify="left" if column == "provider" else "right")
    ours = next(iter(timings.values())).median if timings else None
    for provider, t in timings.items():
        table.add_row(
            provider,
            f"{t.median:.2f}",
            f"{t.lower:.2f} - {t.upper:.2f}",
            f"{t.median / ours:.2f}" if ours else "",
            f"{case.floor_ms / t.median:.0%}" if case.floor_ms else "",
            _number(peaks[provider], 1),
            *(f"{share:.0%}" for share in _shares(case, timings, t).values()),
        )
    for provider, reason in case.skipped.items():
        table.add_row(provider, "", reason)
    Console().print(table)


def _shares(case: Case, timings: dict[str, Timing], timing: Timing | None) -> dict[str, float]:
    """The columns of the yardsticks; none for a provider that was not called."""
    if timing is None:
        return {}
    return {
        column: times * timings[other].median / timing.median
        for column, (other, times) in case.yardsticks.items()
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else str(round(value, digits))


def _rows(
    name: str,
    case: Case,
    device: str,
    timings: dict[str, Timing],
    peaks: dict[str, float | None],
) -> list[dict[str, object]]:
    environment = describe()
    machine, versions = environment["machine"], environment["versions"]
    kept = click.get_current_context().find_root().params["keep_memory"]
    same = {
        **case.columns,
        "freed_memory": "kept" if kept else "",
        "device": machine["gpu"] if device == "cuda" else f"CPU {machine['cpu']}",
        "threads": machine["threads"],
        "versions": " ".join(f"{key}={value}" for key, value in versions.items()),
        "command": f"python -m benchmarks.run {shlex.join(sys.argv[1:])}",
    }
    return [
        {"benchmark": name, **case.key, "provider": provider}
        | _measured(timings.get(provider), peaks.get(provider), case.floor_ms)
        | {n: _number(v, 4) for n, v in _shares(case, timings, timings.get(provider)).items()}
        | {"skipped": case.skipped.get(provider, "")}
        | same
        for provider in [*timings, *case.skipped]
    ]


def _measured(
    timing: Timing | None, peak: float | None, floor_ms: float | None
) -> dict[str, object]:
    of_floor = floor_ms / timing.median if timing and floor_ms else None
    return {
        "median_ms": _number(timing.median if timing else None, 4),
        "lower_ms": _number(timing.lower if timing else None, 4),
        "upper_ms": _number(timing.upper if timing else None, 4),
        "rounds": timing.rounds if timing else "",
        "peak_mb": _number(peak, 1),
        "floor_ms": _number(floor_ms, 5),
        "of_floor": _number(of_floor, 4),
    }


if __name__ == "__main__":
    main()
