"""The command that says what a condensation and its evaluation will cost."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from gencond_fast.cli.condense import condensing, resolved, sized, sizing
from gencond_fast.cli.shared import MODELS, Bytes, check_json, explained, make_reporter
from gencond_fast.config import EvaluateConfig, PlanConfig
from gencond_fast.config.options import parse
from gencond_fast.errors import InputError
from gencond_fast.reporting.plan import print_plan

_EVALUATED = ("models", "protocol", "seeds", "epochs", "baselines")
_PLANNED = ("devices", "link", "images", "num_classes")
_SHARED = ("on_bad_image", "reader", "in_memory", "device", "precision", "compile")


class Devices(click.ParamType):
    """Numbers between commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads the numbers."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(int(each) for each in value.split(","))
        except ValueError:
            raise InputError(
                f"--devices {value!r} is no list of numbers: write it like 1,8,64"
            ) from None


@click.command(
    **explained(
        "Predict what a condensation and its evaluation will take: bytes of the file, memory, time "
        "of every phase, on several numbers of devices. A miniature of both is run on this machine "
        "for it; options are those of condense and evaluate.",
        "  gencond-fast plan --data /data/cifar10 --ipc 1\n"
        "  gencond-fast plan --data /data/cifar10 --ipc 10 --preset accurate --devices 1,4 \\\n"
        "      --protocol modern --epochs 300 --baseline random --json plan.json\n"
        "  gencond-fast plan --images 1281167 --num-classes 1000 --image-size 64 --ipc 1",
    )
)
@click.option("--devices", type=Devices(), help="How many, one a rank (default 1,8,64).")
@click.option("--link", type=Bytes(), help="Bytes a second between two ranks, assumed: 10GB.")
@click.option("--images", type=int, help="Training images of data that are not at hand.")
@click.option("--num-classes", type=int, help="Their classes; goes with --images.")
@sizing
@partial(condensing, data_required=False)
@click.option("--model", "models", multiple=True, help=f"Of the students (convnet3). {MODELS}")
@click.option("--protocol", type=click.Choice(["dc", "modern", "soft"]), help="Default: dc.")
@click.option("--seeds", type=int, help="Students of each kind (default 3).")
@click.option("--epochs", type=int, help="Passes over the training set (default 1000).")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice(["random", "full"]),
    help="As in evaluate.",
)
@click.option("--json", "target", type=Path, help="Write the result to this file.")
def plan(
    data: str | None,
    steps: int | None,
    soft_labels: int | None,
    target: Path | None,
    quiet: bool,
    **plain: Any,
) -> None:
    """Parses the options of a plan, makes it and prints it."""
    planned = _taken(plain, _PLANNED)
    evaluated = _taken(plain, _EVALUATED)
    if (data is None) == ("images" not in planned):
        raise InputError("plan for --data, or for --images and --num-classes: give one of both")
    wanted = parse(PlanConfig, planned)
    given = {"out": ""} | sized(steps, soft_labels)
    config = resolved(given, data=data or "data that are not at hand", **plain)
    evaluated |= {name: getattr(config, name) for name in _SHARED} | {"run": "", "data": ""}
    evaluation = parse(EvaluateConfig, evaluated)
    check_json(target)
    from gencond_fast.planning import make_plan
    from gencond_fast.system.files import write_json

    made = make_plan(config, evaluation, wanted, make_reporter(quiet))
    print_plan(made)  # first, so that a full disk costs the file alone
    if target is not None:
        write_json(target, made.to_plain())


def _taken(plain: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The options of these names that were given; they are taken out of the others."""
    values = {name: plain.pop(name) for name in names}
    return {name: value for name, value in values.items() if value not in (None, ())}
