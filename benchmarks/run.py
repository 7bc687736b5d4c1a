"""The one runner: checks that providers agree, times them in turns, writes a table and CSV."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import click
import torch

from benchmarks import channels as channel_benchmark
from benchmarks import codec as codec_benchmark
from benchmarks import condense as condense_benchmark
from benchmarks import data as data_benchmark
from benchmarks import index as index_benchmark
from benchmarks import losses as loss_benchmark
from benchmarks import moments as moment_benchmark
from benchmarks import plan as plan_benchmark
from benchmarks import scale as scale_benchmark
from benchmarks import students as student_benchmark
from benchmarks.case import Case
from benchmarks.memory import peak_mb
from benchmarks.results import update
from benchmarks.table import Measured, print_case, rows, surroundings, title
from benchmarks.timing import time_in_turns
from gencond_fast.system.memory import keep_freed_memory
from gencond_fast.training.protocol import PROTOCOLS

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
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def condense(
    check: bool,
    threads: int | None,
    rounds: int,
    data: str,
    ipc: int,
    generated: tuple[int, ...],
    device: Literal["cpu", "cuda"],
) -> None:
    """A matching step: the real side looked up, or real batches, ours and as DM has them."""
    made = condense_benchmark.cases(data, ipc, generated, device)
    _run("condense", made, device, check, threads, rounds)


@main.command()
@_common
@click.option("--data", required=True, help="Path or name of a data set.")
@click.option("--ipc", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--model", "models", multiple=True, default=("convnet3",), show_default=True)
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), default="dc", show_default=True)
@click.option("--students", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def students(
    check: bool, threads: int | None, rounds: int, device: Literal["cpu", "cuda"], **options: Any
) -> None:
    """Students of one architecture: as evaluate trains them, and eagerly one after another."""
    if threads:  # the first calls are timed, too
        torch.set_num_threads(threads)
    cases = student_benchmark.cases(device=device, **options)
    _run("students", cases, device, check, threads, rounds, seconds=60.0)


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
def scale(check: bool, threads: int | None, rounds: int) -> None:
    """Trees of many files, scanned and streamed."""
    _run("scale", scale_benchmark.cases(), "cpu", check, threads, rounds)


@main.command()
@click.option(
    "--setting",
    "settings",
    type=click.Choice(list(plan_benchmark.SETTINGS)),
    multiple=True,
    default=tuple(plan_benchmark.SETTINGS),
    show_default=True,
)
@click.option(
    "--data-root",
    "root",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder of the data sets.",
)
def plan(settings: tuple[str, ...], root: Path) -> None:
    """What plan predicts, against real runs; OMP_NUM_THREADS sets the threads."""
    for name in settings:
        found = list(plan_benchmark.measure(name, root))
        for row in found:
            print("  ".join(f"{value}" for value in list(row.values())[2:]), flush=True)
        same = surroundings("cuda" if torch.cuda.is_available() else "cpu")
        update(_RESULTS / "plan.csv", [row | same for row in found])


@main.command()
@click.option("--data", default="digits", show_default=True, help="Path or name of a data set.")
@click.option("--image-size", type=click.IntRange(min=1), help="Default: that of the images.")
@click.option("--images", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--only",
    type=click.Choice(codec_benchmark.NAMES),
    multiple=True,
    default=codec_benchmark.NAMES,
    help="One of the ways to store images; may be given several times. Default: all.",
)
@click.option("--csv", "file", type=click.Path(path_type=Path), help="Default: results/codec.csv.")
def codec(file: Path | None, **options: Any) -> None:
    """Error against bytes of an image: JPEG, WebP, AVIF and our formats."""
    for row in codec_benchmark.measure(**options):
        print("  ".join(str(value) for value in row.values()), flush=True)
        update(file or _RESULTS / "codec.csv", [row | surroundings("cpu")])


@main.command()
@_common
@click.option("--photographs", help="Path of photographs of any size, to be read at 224 pixels.")
@click.option("--small", help="Path of small images, to be read at 128 pixels.")
@click.option(
    "--windows",
    type=click.Choice(data_benchmark.WINDOWS),
    multiple=True,
    default=data_benchmark.WINDOWS,
    show_default=True,
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Photographs that a call reads at least, and an eighth of the small images.",
)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Default: one for each core.")
@click.option(
    "--seconds",
    type=float,
    default=20.0,
    show_default=True,
    help="A way sits out once its calls have taken so long, after three of them.",
)
def data(
    check: bool,
    threads: int | None,
    rounds: int,
    photographs: str | None,
    small: str | None,
    windows: tuple[str, ...],
    images: int,
    batch: int,
    workers: int | None,
    seconds: float,
) -> None:
    """Reading images: ours, and what others do."""
    given = {"photographs": photographs, "small": small}
    sources = {kind: path for kind, path in given.items() if path}
    if not sources:
        raise click.UsageError("give --photographs or --small, or both")
    amounts = {"photographs": images, "small": 8 * images}
    workers = workers or len(os.sched_getaffinity(0))
    cases = data_benchmark.cases(sources, windows, amounts, batch, workers)
    _run("data", cases, "cpu", check, threads, rounds, seconds)


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
@click.option("--classes", type=int, multiple=True, help="Only these C of the grid.")
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
    classes: tuple[int, ...],
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
        and shape.classes in (classes or (shape.classes,))
    ]
    cases = loss_benchmark.cases(shapes, kinds or loss_benchmark.KINDS, device, limits)
    _run("losses", cases, device, check, threads, rounds)


def _run(
    name: str,
    cases: Iterable[Case],
    device: str,
    check: bool,
    threads: int | None,
    rounds: int,
    seconds: float = 10.0,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    for case in cases:
        if check:
            print("agreed:", title(case), flush=True)
            continue
        timings = time_in_turns(case.providers, rounds=rounds, seconds=seconds)
        measured = case.measure(timings) if case.measure else _peaks(case, device)
        print_case(case, timings, measured)
        # after every case, so that an interrupted run keeps what it has
        update(_RESULTS / f"{name}.csv", rows(name, case, device, timings, measured))


def _peaks(case: Case, device: str) -> Measured:
    return {
        provider: {"peak_mb": None if peak is None else round(peak, 1)}
        for provider, call in case.providers.items()
        for peak in [peak_mb(call, device)]
    }


if __name__ == "__main__":
    main()
