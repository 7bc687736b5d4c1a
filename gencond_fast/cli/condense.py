"""The commands `condense` and `stats`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from gencond_fast.api import absolute
from gencond_fast.cli.options import list_options
from gencond_fast.cli.shared import (
    Bytes,
    bad_image_option,
    classes_option,
    device_option,
    explained,
    label_column_option,
    make_reporter,
    quiet_option,
    reader_option,
    set_option,
    transparency_option,
)
from gencond_fast.config import (
    DISCREPANCY_NAMES,
    METHODS,
    OBJECTIVES,
    OPERATIONS,
    PRESET_TEXTS,
    PRESETS,
    Config,
)
from gencond_fast.config.options import (
    parse_assignments,
    parse_discrepancies,
    read_yaml,
    resolve,
    share_networks,
)
from gencond_fast.config.types import StoreFormat
from gencond_fast.distributed.ranks import torchrun
from gencond_fast.errors import InputError
from gencond_fast.reporting.text import print_artifact, print_plain
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.files import expanded


def condensing(command: Callable[..., None], data_required: bool = True) -> Callable[..., None]:
    """Adds the options that decide on the data, the networks and the statistics."""
    options = (
        click.option(
            "--data", required=data_required, help="Image folder, .tar, parquet, .npz or 'digits'."
        ),
        click.option(
            "--preset",
            type=click.Choice(list(PRESETS)),
            default="standard",
            show_default=True,
            help="; ".join(f"{name}: {text}" for name, text in PRESET_TEXTS.items()) + ".",
        ),
        click.option(
            "--method",
            type=click.Choice(list(METHODS)),
            default="gencond",
            show_default=True,
            help="Settings of a published method, over those of --preset and beneath all other "
            "options.",
        ),
        click.option(
            "--objective",
            type=click.Choice(list(OBJECTIVES)),
            default="accuracy",
            show_default=True,
            help="robust: soft labels by adversarially trained networks, so that students "
            "withstand adversarial examples better.",
        ),
        click.option(
            "--networks",
            type=int,
            help="Number of feature networks, a third of them random (default 6; 4 with --preset "
            "quick; a method has its own).",
        ),
        click.option(
            "--augmentation",
            "operations",
            multiple=True,
            type=click.Choice(OPERATIONS),
            help="Augmentation of the real and the stored images; may be repeated (default: all).",
        ),
        click.option(
            "--discrepancy",
            "discrepancies",
            multiple=True,
            metavar="NAME[:WEIGHT]",
            help="Discrepancy between real and stored images to minimise: "
            f"{', '.join(DISCREPANCY_NAMES)}; may be repeated (default: mean).",
        ),
        click.option(
            "--image-size", type=int, help="Side in pixels (default: the data's, at most 64)."
        ),
        click.option(
            "--format",
            "store_format",
            type=click.Choice(get_args(StoreFormat)),
            help="How samples are stored. dct (default): entropy-coded frequencies; generator: "
            "coded blocks, and networks that all classes share; pixels: plain pixels.",
        ),
        click.option(
            "--val-fraction",
            type=float,
            help="Share of the training split to hold out. evaluate then tests on it instead of "
            "on the data's own test split.",
        ),
        classes_option,
        label_column_option,
        transparency_option,
        bad_image_option,
        reader_option,
        click.option("--seed", type=int, help="Seed of everything random (default 0)."),
        device_option,
        click.option("--config", "file", type=Path, help="YAML file of options."),
        set_option("Any other option; condense --list-options prints all of them."),
        quiet_option,
    )
    return _with(options, command)


def sizing(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that decide on the file and on the steps."""
    options = (
        click.option("--ipc", type=int, help="Budget as float32 images per class (default 10)."),
        click.option("--bytes", type=Bytes(), help="Budget as bytes of the file: 40KB, 1.5MiB."),
        click.option(
            "--steps", type=int, help="Matching steps, warm start included (default: --preset)."
        ),
        click.option(
            "--soft-labels",
            type=int,
            help="Class probabilities to store per sample (default 0: hard labels).",
        ),
    )
    return _with(options, command)


def _with(
    options: Sequence[Callable[..., Any]], command: Callable[..., None]
) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def sized(steps: int | None, soft_labels: int | None) -> dict[str, Any]:
    """The config options of flags that have another name."""
    training = {"training": {"steps": steps}} if steps is not None else {}
    store = {"store": {"soft_labels": soft_labels}} if soft_labels is not None else {}
    return training | store


def resolved(
    given: dict[str, Any],
    *,
    data: str,
    preset: str,
    method: str,
    objective: str,
    networks: int | None,
    store_format: str | None = None,
    operations: tuple[str, ...],
    discrepancies: tuple[str, ...],
    file: Path | None,
    assignments: tuple[str, ...],
    **plain: Any,
) -> Config:
    """The config of the file, then the options, then the assignments."""
    given |= {"data": absolute(data)}
    given |= {name: value for name, value in plain.items() if value is not None}
    given["networks"] = {}
    if networks is not None:
        private = "privacy" in given
        given["networks"] = share_networks(networks, method, private)
    if store_format is not None:
        given["store"] = given.get("store", {}) | {"format": store_format}
    if operations:
        given["networks"]["augmentation"] = operations
    if discrepancies:
        given["losses"] = {"discrepancies": parse_discrepancies(discrepancies)}
    layers = (read_yaml(file) if file else {}, given, parse_assignments(assignments))
    return resolve(*layers, preset=preset, method=method, objective=objective)


@click.command(
    **explained(
        "Condense a data set into one small file. Run the same command again to continue after an "
        "interruption. The file holds lossy copies of training images: share it only where you may "
        "share these. Only --dp-epsilon gives a guarantee.",
        "  gencond-fast condense --data digits --out runs/digits --preset quick\n"
        "  gencond-fast condense --data /data/cifar10 --out runs/c10 --minutes 30\n"
        "  gencond-fast condense --data /data/cifar10 --out runs/c10 --ipc 1\n"
        "  gencond-fast condense --data photos.tar --out runs/p --bytes 400KB --image-size 64\n"
        "  gencond-fast condense --data /data/cifar10 --out runs/dm --method dm --preset quick\n"
        "  gencond-fast condense --data set.npz --out runs/n --set losses.intra=0.05\n"
        "  gencond-fast condense --data /data/cifar10 --out runs/p --dp-epsilon 4 --dp-delta 1e-6\n"
        "  torchrun --nproc-per-node 8 -m gencond_fast condense --data /data/imagenet --out runs/i",
    )
)
@click.option("--out", required=True, help="Run directory, made if missing.")
@sizing
@click.option(
    "--dp-epsilon",
    type=float,
    help="Make the file (epsilon, delta)-differentially private: it learns from the images "
    "through one noised table only. Needs pip install dp-accounting.",
)
@click.option(
    "--dp-delta", type=float, help="Goes with --dp-epsilon; far below 1 over the number of images."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Choose the number of steps so that the run takes about so long on this machine. A run "
    "that continues keeps its steps.",
)
@click.option(
    "--no-check",
    is_flag=True,
    help="Leave out the closing check: a short student on the samples as they started and one as "
    "they are in the file, in a tenth of the run's time at most.",
)
@click.option(
    "--list-options",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_options,
    help="Print every option of --set with its type, default and meaning, and exit.",
)
@condensing
def condense(
    data: str,
    out: str,
    steps: int | None,
    soft_labels: int | None,
    dp_epsilon: float | None,
    dp_delta: float | None,
    minutes: float | None,
    no_check: bool,
    quiet: bool,
    **plain: Any,
) -> None:
    """Parses the options of one condensation and runs it."""
    # paths are made absolute so that the same run is recognised from any folder
    given: dict[str, Any] = {"out": str(expanded(out).absolute())}
    privacy = {"epsilon": dp_epsilon, "delta": dp_delta}
    privacy = {name: value for name, value in privacy.items() if value is not None}
    given |= sized(steps, soft_labels) | ({"privacy": privacy} if privacy else {})
    if no_check:
        given["training"] = given.get("training", {}) | {"check": False}
    if minutes is not None and steps is not None:
        raise InputError("--minutes chooses the number of steps: leave out --steps or --minutes")
    with torchrun() as ranks:
        config = resolved(given, data=data, **plain)
        from gencond_fast.condensation import condense as run
        from gencond_fast.planning.minutes import with_minutes
        from gencond_fast.store.artifact import load

        reporter = make_reporter(quiet or not ranks.is_main)
        if minutes is not None:
            config = with_minutes(config, minutes, reporter, ranks)
        path = run(config, reporter, ranks)
    if not ranks.is_main:
        return
    artifact = load(path)
    print_artifact(artifact, path)
    if config.privacy.on:
        print_plain({"privacy": artifact.metadata.made["privacy"]})
    if quiet:
        return
    from gencond_fast.condensation.task import open_config
    from gencond_fast.evaluation.suggestion import suggest_evaluation
    from gencond_fast.system.progress import Reporter

    if open_config(config, Reporter()).val is not None:  # else there is nothing to test on
        print(f"next: {suggest_evaluation(artifact, run=out, data=data, device=config.device)}")


@click.command(
    **explained(
        "Train the feature networks and measure the real images before the runs that use them.",
        "  gencond-fast stats --data /data/cifar10\n"
        "  gencond-fast stats --data /data/cifar10 --networks 12 --discrepancy cf\n"
        "  torchrun --nproc-per-node 8 -m gencond_fast stats --data /data/imagenet",
    )
)
@condensing
def stats(quiet: bool, **plain: Any) -> None:
    """Builds the statistics bank that condense finds in the cache."""
    with torchrun() as ranks:
        config = resolved({"out": ""}, **plain)
        from gencond_fast.condensation import build_statistics

        made = build_statistics(config, make_reporter(quiet or not ranks.is_main), ranks)
    if ranks.is_main:
        told = {
            "features": ", ".join(map(str, made.features)),
            "bytes": f"{made.bytes:,} ({format_bytes(made.bytes)})",
            "seconds": f"{made.seconds:.1f}",
        }
        print_plain(vars(made) | told)
