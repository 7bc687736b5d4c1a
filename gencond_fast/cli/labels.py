"""The commands about soft labels: `relabel` and `teachers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gencond_fast.api import absolute
from gencond_fast.cli.shared import (
    MODELS,
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
from gencond_fast.config.options import parse_assignments, read_yaml, resolve
from gencond_fast.reporting.text import print_artifact, print_plain


@click.command(
    **explained(
        "Give the samples of a condensed file soft labels: class probabilities from networks that "
        "were trained on the real images.",
        "  gencond-fast relabel runs/c10 --data /data/cifar10 --soft-labels 5 --bytes 130KB\n"
        "  gencond-fast relabel runs/c10 --data /data/cifar10 --source full_data --out soft.st\n"
        "  gencond-fast relabel runs/c10 --data /data/cifar10 --set labels.temperature=2",
    )
)
@click.argument("run")
@click.option("--data", required=True, help="The data that the file was condensed from.")
@click.option(
    "--soft-labels",
    type=int,
    help="Class probabilities to store per sample (default: as in the file).",
)
@click.option(
    "--source",
    type=click.Choice(["pool", "full_data"]),
    help="Who gives the soft labels. pool: the trained feature networks; full_data: networks "
    "trained on all training images (default: as in the file, else pool).",
)
@click.option("--bytes", type=Bytes(), help="Budget as bytes: 40KB, 1.5MiB (default: the file's).")
@click.option("--out", help="File to write (default: replace the one that is read).")
@label_column_option
@transparency_option
@bad_image_option
@reader_option
@device_option
@set_option("An option of labels, teachers or networks, in_memory, precision or compile.")
@quiet_option
def relabel(
    run: str,
    data: str,
    soft_labels: int | None,
    source: str | None,
    out: str | None,
    assignments: tuple[str, ...],
    quiet: bool,
    **plain: Any,
) -> None:
    """Parses the options of a relabelling and runs it."""
    given = {name: value for name, value in plain.items() if value is not None}
    given["store"] = {} if soft_labels is None else {"soft_labels": soft_labels}
    given["labels"] = {} if source is None else {"source": source}
    options = (given, parse_assignments(assignments))
    from gencond_fast.condensation import relabel as relabelled
    from gencond_fast.store.artifact import load

    path = relabelled(run, absolute(data), *options, out=out, reporter=make_reporter(quiet))
    print_artifact(load(path), path)
    print(f"next: gencond-fast evaluate {out or run} --data {data} --protocol soft")


@click.command(
    **explained(
        "Train teachers on all training images, before the runs that use their soft labels. Run "
        "the same command again to continue after an interruption.",
        "  gencond-fast teachers --data /data/cifar10 --epochs 40\n"
        "  gencond-fast teachers --data set.npz --val-fraction 0.1 --count 3 --model resnet18",
    )
)
@click.option("--data", required=True, help="Image folder, .tar, parquet, .npz or 'digits'.")
@click.option("--model", help=f"Architecture (default convnet3): {MODELS}")
@click.option("--width", type=int, help="Channels of a ConvNet (default 128).")
@click.option("--count", type=int, help="Number of teachers (default 1).")
@click.option("--epochs", type=int, help="Training epochs (default 20).")
@click.option("--image-size", type=int, help="Side in pixels (default: the data's, at most 64).")
@click.option(
    "--val-fraction", type=float, help="Share to hold out; the accuracy on it is printed."
)
@classes_option
@label_column_option
@transparency_option
@bad_image_option
@reader_option
@click.option("--seed", type=int, help="Seed of everything random (default 0).")
@device_option
@click.option("--config", "file", type=Path, help="YAML file of options.")
@set_option("Any other option.")
@quiet_option
def teachers(
    data: str, file: Path | None, assignments: tuple[str, ...], quiet: bool, **plain: Any
) -> None:
    """Parses the options of the teachers and trains them."""
    given = {name: value for name, value in plain.items() if value is not None}
    names = ("model", "width", "count", "epochs")
    section = {name: given.pop(name) for name in names if name in given}
    given |= {"data": absolute(data), "out": "", "teachers": section}
    config = resolve(read_yaml(file) if file else {}, given, parse_assignments(assignments))
    from gencond_fast.condensation import train_teachers

    made = train_teachers(config, make_reporter(quiet))
    shown = vars(made) | {
        "seconds": f"{made.seconds:.1f}",
        "files": "".join(map(_line, made.files)),
    }
    shown["accuracies"] = made.accuracies and ", ".join(f"{100 * a:.2f} %" for a in made.accuracies)
    print_plain(shown)


def _line(path: Path) -> str:
    return f"\n  {path}"
