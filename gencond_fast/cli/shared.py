"""What several commands of the command line share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gencond_fast.errors import InputError
from gencond_fast.system.bytes import parse_bytes
from gencond_fast.system.files import write_json
from gencond_fast.system.progress import Reporter, choose_reporter, printable

# spelled out, since the networks themselves take a second to be imported
MODELS = (
    "convnet3, convnet4, convnet5, convnet3bn (128 channels wide; convnet3@64 has 64), resnet18, "
    "resnet18in, resnet50, mobilenetv2, vgg11, vgg11bn, alexnet, vit, vit-s, timm:NAME or "
    "torchvision:NAME where that is installed, or your own as module:function."
)


class Classes(click.ParamType):
    """Class names between commas, or a file that holds one a line."""

    name = "NAMES|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads the names."""
        from gencond_fast.data.classes import parse_classes

        return parse_classes(value) if isinstance(value, str) else value


class Bytes(click.ParamType):
    """An amount of bytes, with a unit or without."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads 40KB and the like."""
        return parse_bytes(str(value))


classes_option = click.option(
    "--classes",
    type=Classes(),
    help="Use these classes only: a,b,c or a file with one name per line.",
)
test_split_option = click.option(
    "--test-split",
    help="The split of the data to test on (default: what the condensation held out, else "
    "validation, else test).",
)
label_column_option = click.option(
    "--label-column", help="The column of labels of a table (default: looked for by its name)."
)
transparency_option = click.option(
    "--transparency",
    type=click.Choice(["white", "black", "ignore"]),
    help="What shows through transparent images; ignore: the colours that are stored under it "
    "(default: white).",
)
bad_image_option = click.option(
    "--on-bad-image",
    type=click.Choice(["error", "skip"]),
    help="error: stop at an image that cannot be decoded (default); skip: leave it out.",
)

reader_option = click.option(
    "--reader",
    type=click.Choice(["auto", "dali", "processes", "threads"]),
    help="Who decodes images: DALI, or Pillow in processes or threads (default auto: DALI on a GPU "
    "where it is installed, else processes on two cores or more, else threads).",
)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Where to compute (default auto: a GPU if there is one).",
)
json_option = click.option("--json", "file", type=Path, help="Write the result to this file.")
quiet_option = click.option("--quiet", is_flag=True, help="Print the result only.")


def set_option(which: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--set KEY=VALUE`, with a sentence on which keys there are."""
    return click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=which)


def explained(text: str, example: str) -> dict[str, Any]:
    """The help of a command, with examples."""
    return {"help": text, "epilog": "\b\nExamples:\n" + example}


def check_json(file: Path | None) -> None:
    """Refuses a --json that could not be written, before the work is done."""
    if file is not None and not file.absolute().parent.is_dir():
        raise InputError(f"--json {file}: the folder {file.parent} does not exist")
    if file is not None and file.is_dir():
        raise InputError(f"--json {file} is a folder: give the name of a file")


def make_reporter(quiet: bool) -> Reporter:
    """A progress bar on a terminal, lines elsewhere, nothing where that is asked for."""
    return Reporter() if quiet else choose_reporter()


def deliver(
    file: Path | None,
    values: Any,
    show: Callable[[], None],
    *,
    beside: Path | None = None,
    quiet: bool = False,
) -> None:
    """Writes the result of a command to `--json` and prints it; neither failure costs the other.

    Args:
        file: where `--json` says, None for nowhere.
        values: plain values for JSON.
        show: prints the result.
        beside: where `report` looks for what nobody asked to be written; None for nowhere.
        quiet: whether to say nothing of that.

    Raises:
        OSError: the file or the output cannot be written.
    """
    failure = None
    try:
        if file is not None:
            write_json(file, values)
    except OSError as error:
        failure = error
    left = _leave(beside, values) if beside else ""  # first, so that no pipe costs it
    show()
    if failure is not None:
        raise failure
    if left.startswith("note"):
        tell(left)
    elif left and not quiet:
        print(printable(left))


def _leave(place: Path, values: Any) -> str:
    """Writes a result that nobody asked to be written, and says where: the table is enough."""
    try:
        write_json(place, values)
    except OSError as error:
        reason = error.strerror or str(error)
        return (
            f"note: {place} could not be written ({reason}), so report will not "
            "find this result: give --json FILE"
        )
    return f"result: {place}"


def tell(text: str) -> None:
    """A line for people, beside the result that is printed."""
    print(printable(text), file=sys.stderr, flush=True)
