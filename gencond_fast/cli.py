"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from gencond_fast._version import __version__
from gencond_fast.budget import format_bytes, parse_bytes
from gencond_fast.cli_data import data as data_commands
from gencond_fast.cli_shared import (
    absolute,
    bad_image_option,
    check_json,
    classes_option,
    explained,
    make_reporter,
)
from gencond_fast.config import OPERATIONS, PRESETS, Config, EvaluateConfig
from gencond_fast.distributed import speaks, torchrun, world_size
from gencond_fast.errors import InputError, RunError
from gencond_fast.interrupt import Terminated
from gencond_fast.options import (
    parse,
    parse_assignments,
    parse_discrepancies,
    read_yaml,
    resolve,
    share_networks,
)
from gencond_fast.report.text import print_artifact, print_plain, print_result

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


class _Bytes(click.ParamType):
    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads 40KB and the like."""
        return parse_bytes(str(value))


def _condensing(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that decide on the data, the networks and the statistics."""
    options = (
        click.option(
            "--data", required=True, help="Image folder, .tar, parquet, .npz or 'digits'."
        ),
        click.option(
            "--preset", type=click.Choice(list(PRESETS)), default="standard", show_default=True
        ),
        click.option(
            "--networks", type=int, help="Feature networks, a third random (default 6; quick 4)."
        ),
        click.option(
            "--augmentation",
            "operations",
            multiple=True,
            type=click.Choice(OPERATIONS),
            help="Of the policy, may be repeated (default: all).",
        ),
        click.option(
            "--discrepancy",
            "discrepancies",
            multiple=True,
            metavar="NAME[:WEIGHT]",
            help="mean (default), moments, cf; may be repeated.",
        ),
        click.option(
            "--image-size", type=int, help="Side in pixels (default: the data's, at most 64)."
        ),
        click.option(
            "--val-fraction", type=float, help="Share held out, for data without a val split."
        ),
        classes_option,
        bad_image_option,
        click.option("--seed", type=int, help="Of everything random (default 0)."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Default: auto."),
        click.option("--config", "file", type=Path, help="YAML file of options."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Any other option; the config.yaml of a run lists all of them.",
        ),
        click.option("--quiet", is_flag=True, help="Print the result only."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _resolve(
    given: dict[str, Any],
    *,
    data: str,
    preset: str,
    networks: int | None,
    operations: tuple[str, ...],
    discrepancies: tuple[str, ...],
    file: Path | None,
    assignments: tuple[str, ...],
    **plain: Any,
) -> Config:
    """The config of the file, then the options, then the assignments."""
    given |= {"data": absolute(data)}
    given |= {name: value for name, value in plain.items() if value is not None}
    given["networks"] = share_networks(networks) if networks is not None else {}
    if operations:
        given["networks"]["operations"] = operations
    if discrepancies:
        given["losses"] = {"discrepancies": parse_discrepancies(discrepancies)}
    layers = (read_yaml(file) if file else {}, given, parse_assignments(assignments))
    return resolve(*layers, preset=preset)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gencond_fast")
@click.pass_context
def cli(context: click.Context) -> None:
    """Condense an image dataset into one small file that trains networks from scratch."""
    world, command = world_size(), context.invoked_subcommand
    if world > 1 and command != "stats":
        raise InputError(
            f"only stats runs on several ranks, and WORLD_SIZE is {world}: start {command} "
            "without torchrun"
        )


@cli.command(
    **explained(
        "Condense a data set. Run the same command again to continue after an interruption.",
        "  gencond_fast condense --data digits --out runs/digits --preset quick\n"
        "  gencond_fast condense --data /data/cifar10 --out runs/c10 --ipc 1\n"
        "  gencond_fast condense --data photos.tar --out runs/p --bytes 400KB --image-size 64\n"
        "  gencond_fast condense --data set.npz --out runs/n --set losses.intra=0.05",
    )
)
@click.option("--out", required=True, help="Run directory, made if missing.")
@click.option("--ipc", type=int, help="Budget in float32 images a class (default 10).")
@click.option("--bytes", type=_Bytes(), help="Budget in bytes of the file: 40KB, 1.5MiB.")
@click.option("--steps", type=int, help="Optimiser steps, warm start included.")
@_condensing
def condense(data: str, out: str, steps: int | None, quiet: bool, **plain: Any) -> None:
    """Parses the options of one condensation and runs it."""
    # paths are made absolute so that the same run is recognised from any folder
    given = {"out": str(Path(out).expanduser().absolute())}
    training = {"training": {"steps": steps}} if steps is not None else {}
    config = _resolve(given | training, data=data, **plain)
    from gencond_fast.artifact import load
    from gencond_fast.condensation import condense as run

    path = run(config, make_reporter(quiet))
    print_artifact(load(path), path)
    print(f"next: gencond_fast evaluate {out} --data {data} --control random")


@cli.command(
    **explained(
        "Train feature networks and measure the real data ahead of the runs that share them.",
        "  gencond_fast stats --data /data/cifar10\n"
        "  gencond_fast stats --data /data/cifar10 --networks 12 --discrepancy cf\n"
        "  torchrun --nproc-per-node 8 -m gencond_fast stats --data /data/imagenet",
    )
)
@_condensing
def stats(quiet: bool, **plain: Any) -> None:
    """Builds the statistics bank that condense finds in the cache."""
    with torchrun() as ranks:
        config = _resolve({"out": ""}, **plain)
        from gencond_fast.condensation import build_statistics

        made = build_statistics(config, make_reporter(quiet or not ranks.first), ranks)
    if ranks.first:
        size, seconds = format_bytes(made.bytes), f"{made.seconds:.1f}"
        print_plain(vars(made) | {"bytes": f"{made.bytes:,} ({size})", "seconds": seconds})


@cli.command(
    **explained(
        "Train networks from scratch on a condensed set and test them on the real one.",
        "  gencond_fast evaluate runs/c10 --data /data/cifar10 --control random\n"
        "  gencond_fast evaluate runs/c10 --data /data/cifar10 --model resnet18 \\\n"
        "      --seeds 5 --epochs 300 --json result.json",
    )
)
@click.argument("run")
@click.option("--data", required=True, help="The data that the set was condensed from.")
@click.option(
    "--model", "models", multiple=True, help="convnet3 (default), convnet4, convnet5, resnet18."
)
@click.option("--seeds", type=int, help="Students of each kind (default 3).")
@click.option("--epochs", type=int, help="Passes over the training set (default 1000).")
@click.option(
    "--control",
    "controls",
    multiple=True,
    type=click.Choice(["random"]),
    help="As many random real images a class as the budget is in IPC.",
)
@classes_option
@bad_image_option
@click.option("--split", type=click.Choice(["stored", "stream"]), help="Default: stored.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Default: auto.")
@click.option("--json", "file", type=Path, help="Write the result to this file.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="precision or compile."
)
@click.option("--quiet", is_flag=True, help="Print the result only.")
def evaluate(file: Path | None, assignments: tuple[str, ...], quiet: bool, **plain: Any) -> None:
    """Parses the options of one evaluation and runs it."""
    given = {name: value for name, value in plain.items() if value not in (None, ())}
    config = parse(EvaluateConfig, given | parse_assignments(assignments))
    check_json(file)
    from gencond_fast.evaluation import evaluate as run
    from gencond_fast.files import write_json

    result = run(config, make_reporter(quiet))
    print_result(result)  # first, so that a full disk costs the file alone
    if file is not None:
        write_json(file, result.to_plain())


cli.add_command(data_commands)


@cli.command(
    **explained(
        "Write the stored samples as images.",
        "  gencond_fast sample runs/c10 --out pictures --per-class 8\n"
        "  gencond_fast sample runs/c10 --out exported --format npz",
    )
)
@click.argument("run")
@click.option("--out", required=True, help="Folder to write to, made if missing.")
@click.option(
    "--per-class", type=click.IntRange(min=1), help="Samples of each class (default all)."
)
@click.option(
    "--format",
    type=click.Choice(["imagefolder", "npz", "grid"]),
    default="imagefolder",
    show_default=True,
)
def sample(run: str, out: str, per_class: int | None, format: str) -> None:
    """Exports the stored samples."""
    from gencond_fast.export import export

    print(export(run, out, format=format, per_class=per_class))


@cli.command(
    **explained(
        "Describe this installation, or a condensed file.",
        "  gencond_fast info\n  gencond_fast info runs/c10",
    )
)
@click.argument("run", required=False)
def info(run: str | None) -> None:
    """Prints what is installed, or what is in a file."""
    if run is not None:
        from gencond_fast.artifact import FILE_NAME, load

        path = Path(run)
        artifact = load(path)
        print_artifact(artifact, path / FILE_NAME if path.is_dir() else path)
        print_plain({"classes": ", ".join(artifact.metadata.class_names)})
        print_plain(artifact.metadata.made)
        return
    from gencond_fast.environment import describe

    print_plain(describe())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program: exit code 2 for user errors, 1 for failures, 130 for Ctrl-C."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(args=arguments, prog_name="gencond_fast", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except InputError as error:
        return _complain(str(error), 2)
    except RunError as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted; run the same command again to continue", 130)
    except Terminated:
        return _complain("asked to stop; run the same command again to continue", 143)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        advice = (
            "free some space and run the same command again"
            if error.errno in _OUT_OF_SPACE
            else "check the path and its permissions"
        )
        return _complain(f"cannot read or write{place} ({error.strerror or error}): {advice}", 2)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _complain(message: str, code: int) -> int:
    if speaks():
        print(f"error: {message}", file=sys.stderr, flush=True)
    return code
