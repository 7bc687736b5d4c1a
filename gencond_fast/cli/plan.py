"""The command that says what a condensation and its evaluation will cost."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from gencond_fast.cli.condense import condensing, resolved, sized, sizing
from gencond_fast.cli.shared import MODELS, check_json, deliver, explained, make_reporter
from gencond_fast.config import EvaluateConfig, run_options
from gencond_fast.config.options import parse
from gencond_fast.errors import InputError
from gencond_fast.reporting.plan import print_plan

_EVALUATED = ("models", "protocol", "seeds", "epochs", "student_steps", "baselines")


@click.command(
    **explained(
        "Predict what a condensation and its evaluation will take on this machine: bytes of the "
        "file, memory, time of every phase. A short run of both is timed for it; options are those "
        "of condense and evaluate.",
        "  gencond-fast plan --data /data/cifar10 --ipc 1\n"
        "  gencond-fast plan --data /data/cifar10 --ipc 10 --preset accurate \\\n"
        "      --protocol modern --epochs 300 --baseline random --json plan.json\n"
        "  gencond-fast plan --images 1281167 --num-classes 1000 --image-size 64 --ipc 1",
    )
)
@click.option("--images", type=int, help="Training images of data that are not at hand.")
@click.option("--num-classes", type=int, help="Their classes; goes with --images.")
@sizing
@partial(condensing, data_required=False)
@click.option("--model", "models", multiple=True, help=f"Of the students (convnet3). {MODELS}")
@click.option("--protocol", type=click.Choice(["dc", "modern", "soft"]), help="Default: dc.")
@click.option("--seeds", type=int, help="Students of each kind (default 3).")
@click.option("--epochs", type=int, help="Passes over the training set (default 1000).")
@click.option("--student-steps", type=int, help="As in evaluate, in place of --epochs.")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice(["random", "full"]),
    help="As in evaluate; raw, jpeg and avif are not planned.",
)
@click.option("--json", "target", type=Path, help="Write the result to this file.")
def plan(
    data: str | None,
    images: int | None,
    num_classes: int | None,
    steps: int | None,
    soft_labels: int | None,
    target: Path | None,
    quiet: bool,
    **plain: Any,
) -> None:
    """Parses the options of a plan, makes it and prints it."""
    given = {name: plain.pop(name) for name in _EVALUATED}
    if (data is None) == (images is None):
        raise InputError("plan for --data, or for --images and --num-classes: give one of both")
    if (images is None) != (num_classes is None):
        raise InputError("--images and --num-classes go together: give both or none")
    config = resolved({"out": ""} | sized(steps, soft_labels), data=data or "absent", **plain)
    given = {name: value for name, value in given.items() if value not in (None, ())}
    evaluation = parse(EvaluateConfig, run_options(config) | {"run": ""} | given)
    check_json(target)
    from gencond_fast.planning import plan as make_plan

    absent = None if images is None or num_classes is None else (images, num_classes)
    made = make_plan(config, evaluation, absent=absent, reporter=make_reporter(quiet))
    deliver(target, made.to_dict(), partial(print_plan, made))
