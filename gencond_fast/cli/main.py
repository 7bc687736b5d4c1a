"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from gencond_fast._version import __version__
from gencond_fast.cli.audit import audit
from gencond_fast.cli.condense import condense, stats
from gencond_fast.cli.data import data as data_commands
from gencond_fast.cli.labels import relabel, teachers
from gencond_fast.cli.plan import plan
from gencond_fast.cli.report import report
from gencond_fast.cli.score import score
from gencond_fast.cli.shared import (
    MODELS,
    bad_image_option,
    check_json,
    classes_option,
    deliver,
    device_option,
    explained,
    json_option,
    label_column_option,
    make_reporter,
    quiet_option,
    reader_option,
    set_option,
    tell,
    test_split_option,
    transparency_option,
)
from gencond_fast.config import BASELINES, EvaluateConfig
from gencond_fast.config.options import merge, parse, parse_assignments
from gencond_fast.distributed.ranks import torchrun
from gencond_fast.distributed.rendezvous import speaks, world_size
from gencond_fast.errors import InputError, RunError
from gencond_fast.reporting.text import print_artifact, print_plain, print_result
from gencond_fast.system.interrupt import Terminated
from gencond_fast.system.progress import printable
from gencond_fast.system.streams import make_streams_robust

_ON_RANKS = ("condense", "evaluate", "stats")
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gencond-fast")
@click.pass_context
def cli(context: click.Context) -> None:
    """Condense an image dataset into one small file that trains networks from scratch."""
    world, command = world_size(), context.invoked_subcommand
    if world > 1 and command not in _ON_RANKS:
        raise InputError(
            f"only {', '.join(_ON_RANKS)} run on several ranks, and WORLD_SIZE is {world}: "
            f"start {command} without torchrun"
        )


@cli.command(
    **explained(
        "Train networks (students) from scratch on a condensed file and test them on real images. "
        "The result of a run directory is also written there, as a JSON file that report finds; "
        "with --json it goes to that file instead.",
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --baseline random\n"
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --baseline jpeg \\\n"
        "      --student-steps 2000\n"
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --baseline full --epochs 30\n"
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --protocol modern --epochs 300\n"
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --baseline random \\\n"
        "      --without-augmentation\n"
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --model resnet18 \\\n"
        "      --seeds 5 --epochs 300 --json result.json\n"
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --model all --model nets:mine\n"
        "  gencond-fast evaluate runs/c10 --data /data/cifar10 --attack fgsm --attack pgd\n"
        "  torchrun --nproc-per-node 4 -m gencond_fast evaluate runs/c10 --data /data/cifar10",
    )
)
@click.argument("run")
@click.option("--data", required=True, help="The data that the file was condensed from.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help=f"Architecture of the students; may be repeated (default convnet3): {MODELS} all: one "
    "of each kind.",
)
@click.option(
    "--protocol",
    type=click.Choice(["dc", "modern", "soft"]),
    help="dc (default), as in the literature; modern: AdamW, cosine, CutMix, averaged weights; "
    "soft: modern, on the file's soft labels.",
)
@click.option("--seeds", type=int, help="Students per architecture and training set (default 3).")
@click.option(
    "--parallel-students",
    type=int,
    help="Students to train at once in one batched network (default 1; more are meant for GPUs).",
)
@click.option(
    "--epochs",
    type=int,
    help="Training epochs on the file (default 1000). A baseline has no fewer steps than the file.",
)
@click.option(
    "--student-steps",
    type=int,
    help="Optimiser steps of every student, on the file and on baselines, in place of --epochs.",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice(BASELINES),
    help="Also train on real images, for comparison; may be repeated. random: as many random ones "
    "per class as the budget is in IPC; raw: as many as the file has samples; jpeg, avif: as many "
    "as fit into the bytes of the file by that codec (--set baseline.quality=Q); full: all of "
    "them.",
)
@click.option(
    "--without-augmentation",
    is_flag=True,
    default=None,
    help="Also train students without augmentation, on the file and on every baseline but full. "
    "With --baseline random this gives the augmentation-robust score.",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=click.Choice(["fgsm", "pgd", "autoattack"]),
    help="Also test the students on adversarial examples; may be repeated. autoattack needs "
    "pip install pyautoattack.",
)
@click.option(
    "--epsilon", type=float, help="Largest change of a pixel by an attack, in 255ths (default 8)."
)
@click.option("--attack-images", type=int, help="Test images to attack (default 1000).")
@classes_option
@test_split_option
@label_column_option
@transparency_option
@bad_image_option
@reader_option
@click.option(
    "--sampling",
    type=click.Choice(["fixed", "fresh"]),
    help="fixed: train on the stored samples (default); fresh: on new ones drawn around them every "
    "epoch.",
)
@device_option
@json_option
@set_option("precision, compile, in_memory, attack.steps or attack.step_size.")
@quiet_option
def evaluate(
    file: Path | None,
    assignments: tuple[str, ...],
    quiet: bool,
    attacks: tuple[str, ...],
    epsilon: float | None,
    attack_images: int | None,
    **plain: Any,
) -> None:
    """Parses the options of one evaluation and runs it."""
    attack = _given({"names": attacks, "epsilon": epsilon, "images": attack_images})
    given = _given(plain) | {"attack": attack}
    with torchrun() as ranks:
        config = parse(EvaluateConfig, merge(given, parse_assignments(assignments)))
        check_json(file)
        from gencond_fast.evaluation import evaluate as run
        from gencond_fast.evaluation.beside import place_beside

        result = run(config, make_reporter(quiet or not ranks.is_main), ranks)
    if not ranks.is_main:
        return
    place = None if file else place_beside(config)
    deliver(file, result.to_dict(), partial(print_result, result), beside=place, quiet=quiet)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, ())}


for _command in (plan, condense, stats, teachers, relabel, report, score, audit, data_commands):
    cli.add_command(_command)


@cli.command(
    **explained(
        "Write the stored samples as images or arrays.",
        "  gencond-fast sample runs/c10 --out pictures --per-class 8\n"
        "  gencond-fast sample runs/c10 --out exported --format npz\n"
        "  gencond-fast sample runs/c10 --out exported --format pt",
    )
)
@click.argument("run")
@click.option("--out", required=True, help="Folder to write to; made if missing.")
@click.option("--per-class", type=click.IntRange(min=1), help="Samples per class (default: all).")
@click.option(
    "--format",
    type=click.Choice(["imagefolder", "npz", "pt", "webdataset", "parquet", "grid"]),
    default="imagefolder",
    show_default=True,
    help="imagefolder: a folder of PNG files per class; npz, pt, webdataset, parquet: one file; "
    "grid: one picture.",
)
def sample(run: str, out: str, per_class: int | None, format: str) -> None:
    """Exports the stored samples."""
    from gencond_fast.exporting import export

    written = export(run, out, format=format, per_class=per_class, tell=tell)
    print(written)


@cli.command(
    **explained(
        "Describe this installation, or a condensed file.",
        "  gencond-fast info\n  gencond-fast info runs/c10",
    )
)
@click.argument("run", required=False)
def info(run: str | None) -> None:
    """Prints what is installed, or what is in a file."""
    if run is not None:
        from gencond_fast.store.artifact import FILE_NAME, load

        path = Path(run)
        artifact = load(path)
        print_artifact(artifact, path / FILE_NAME if path.is_dir() else path)
        print_plain({"classes": ", ".join(artifact.metadata.class_names)})
        if "privacy" not in artifact.metadata.made:
            print("privacy: none; samples are lossy copies of training images or may resemble them")
        print_plain(artifact.metadata.made)
        return
    from gencond_fast.system.environment import describe

    print_plain(describe())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program: exit code 2 for user errors, 1 for failures, 130 for Ctrl-C."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    make_streams_robust()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(args=arguments, prog_name="gencond-fast", standalone_mode=False)
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
        print(f"error: {printable(message)}", file=sys.stderr, flush=True)
    return code
