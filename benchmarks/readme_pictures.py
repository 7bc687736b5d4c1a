"""Draws the two pictures of the README.

    gencond-fast condense --data cifar10/ --out runs/c10 --ipc 1 --preset quick --steps 400
    python -m benchmarks.readme_pictures samples runs/c10 --data cifar10/
    python -m benchmarks.readme_pictures chart generator=docs/results/cifar10-ipc1.json \\
        accurate=docs/results/cifar10-ipc1-accurate-153.json

`samples` puts stored samples below the training images that they started from. `chart` draws
accuracy against bytes from results of `gencond-fast evaluate --json`, beside published accuracies.
A name before a result names its file; `gencond-fast` is the name of those without one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import click
import numpy as np
import torch
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gencond_fast.condensation.selection import choose_targets, preferred_rows
from gencond_fast.condensation.sharing import shared_networks
from gencond_fast.condensation.task import choose_image_size, open_config, open_task, set_up
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.evaluation.result import EvaluationResult
from gencond_fast.exporting.figures import save_png, to_picture, to_uint8
from gencond_fast.reporting.accuracy import (
    TRAINING_SETS,
    Score,
    comparable,
    draw_accuracy,
    scores_of,
)
from gencond_fast.reporting.picture import accuracy_png
from gencond_fast.reporting.published import published_for
from gencond_fast.reporting.record import Record, read_record
from gencond_fast.reporting.svg import element, markup
from gencond_fast.store.spec import StoreSpec
from gencond_fast.system.progress import Reporter

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"

_CELL = 68  # pixels of one picture, about
_GAP, _PAIR_GAP = 2, 12
_MARGIN, _HEAD = 104, 22  # pixels left of the pictures and above them
_FONT_SIZE = 13
_CIFAR10 = StoreSpec("pixels", 10, 1, 3, 32, width=1, code_channels=1, code_size=1)
_NAMES = {"random": "random images", "jpeg": "random images as JPEG", "full": "all images"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Draw the pictures of the README."""


@main.command()
@click.argument("run", type=Path)
@click.option("--data", required=True, help="The data set that the run was condensed from.")
@click.option("--pairs", default=2, show_default=True, help="Samples of each class.")
@click.option("--out", type=Path, default=IMAGES / "samples-and-origins.png", show_default=True)
def samples(run: Path, data: str, pairs: int, out: Path) -> None:
    """Stored samples below the training images that they started from."""
    record = read_record(run)
    per_class, classes = record.artifact.metadata.store.per_class, range(min(10, _classes(record)))
    index = torch.tensor([[c * per_class + k for c in classes] for k in range(pairs)])
    origins = origin_images(record, data)
    with torch.no_grad():
        stored = to_uint8(record.artifact.store(index.flatten()))
    real = origins[index.flatten()].permute(0, 2, 3, 1).numpy()
    names = record.artifact.metadata.class_names[: len(classes)]
    shape = (pairs, len(classes), *stored.shape[1:])
    save_png(draw_pairs(real.reshape(shape), stored.reshape(shape), names), out)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")


def origin_images(record: Record, data: str) -> Tensor:
    """The training images that the stored samples of a run started from, in their order.

    They are chosen again, as the run chose them: by its options and its seed. Where
    `training.selection` looks at feature networks these come from the cache or are trained again.

    Args:
        record: a finished run of a format that starts from real images.
        data: path or name of the data set of the run.

    Returns:
        uint8 [C * per_class, channels, S, S]. An image whose class has fewer images than samples
        returns mirrored, as it did in the run.

    Raises:
        InputError: the run started from noise, or the data is not that of the run.
    """
    config, metadata = replace(record.config, data=data), record.artifact.metadata
    if config.privacy.on or not config.starts_as_images:
        raise InputError(f"the samples of {record.directory} did not start from training images")
    source = open_config(config, Reporter())
    if source.fingerprint != metadata.made["data"]:
        raise InputError(f"{data} is not the data that {record.directory} was condensed from")
    task = open_task(set_up(config, source, choose_image_size(config, source), Reporter()))
    per_class, rows = metadata.store.per_class, None
    if config.training.selection != "random":
        rows = preferred_rows(task, shared_networks(task, Ranks()), per_class)
    return choose_targets(task.sample.images, task.sample.labels, per_class, rows)


def draw_pairs(real: np.ndarray, stored: np.ndarray, names: Sequence[str]) -> Image.Image:
    """A column for each class, and for each pair a row of training images above one of samples.

    Args:
        real: uint8 [pairs, classes, S, S, channels].
        stored: likewise.
        names: of the classes.
    """
    pairs, classes, side = stored.shape[:3]
    cell = side * max(1, round(_CELL / side))
    step, height = cell + _GAP, 2 * (cell + _GAP) + _PAIR_GAP
    size = (_MARGIN + classes * step, _HEAD + pairs * height - _PAIR_GAP)
    sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(_FONT_SIZE)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        place = (_MARGIN + column * step + cell / 2, _HEAD / 2)
        draw.text(place, name, fill="black", font=font, anchor="mm")
    for pair in range(pairs):
        for line, (words, images) in enumerate((("training image", real), ("in the file", stored))):
            top = _HEAD + pair * height + line * step
            draw.text((2, top + cell / 2), words, fill="black", font=font, anchor="lm")
            for column, pixels in enumerate(images[pair]):
                image = to_picture(pixels).resize((cell, cell), Image.Resampling.NEAREST)
                sheet.paste(image.convert("RGB"), (_MARGIN + column * step, top))
    return sheet


@main.command()
@click.argument("results", nargs=-1, required=True, metavar="[NAME=]JSON...")
@click.option("--out", type=Path, default=IMAGES / "accuracy-against-bytes.png", show_default=True)
def chart(results: tuple[str, ...], out: Path) -> None:
    """Accuracy on the test images of CIFAR-10 against bytes, from results of `evaluate --json`."""
    scores = [score for each in results for score in _scores(each)]
    published = published_for("cifar10", _CIFAR10)
    drawing = draw_accuracy(comparable(scores), published, "readme")
    if drawing is None:
        raise click.ClickException("no result has an accuracy on test images")
    out.write_bytes(accuracy_png([("CIFAR-10", name_marks(drawing))]))
    click.echo(f"{out}: {out.stat().st_size:,} bytes")


def name_marks(drawing: Markup) -> Markup:
    """The chart of `draw_accuracy` with a name beside each of its marks."""
    root = ElementTree.fromstring(drawing)
    for mark in list(root.iter()):
        kind, title = mark.get("class"), mark.findtext("title", "")
        baseline = next((_NAMES[k] for k in _NAMES if TRAINING_SETS[k] in title), "")
        if kind == "baseline":
            left, top = _corner(mark, "rect", "x", "y")
            _name(mark, baseline, left + 15, top + 5)
        elif kind == "own" and mark.find("text") is None:  # several have their names already
            left, top = _corner(mark, "circle", "cx", "cy")
            _name(mark, title.partition(":")[0], left + 11, top)
        elif kind == "full":
            _name(root, baseline, float(mark.attrib["x1"]) + 4, float(mark.attrib["y1"]) - 9)
    return markup(root)


def _corner(mark: Element, tag: str, x: str, y: str) -> tuple[float, float]:
    """Where the shape of a mark lies."""
    shape = mark.find(tag)
    assert shape is not None
    return float(shape.attrib[x]), float(shape.attrib[y])


def _name(parent: Element, name: str, x: float, y: float) -> None:
    element(parent, "text", name, x=x, y=y + 4)


def _classes(record: Record) -> int:
    return record.artifact.metadata.store.num_classes


def _scores(argument: str) -> list[Score]:
    """The rows of one result; its file has the size that it had when it was evaluated."""
    before, _, after = argument.partition("=")
    name, path = (before, Path(after)) if after else ("gencond-fast", Path(before))
    try:
        values = {"held_out": None} | json.loads(path.read_text(encoding="utf-8"))
        values["rows"] = [{"steps": 0} | row for row in values["rows"]]  # early results lack both
        result = EvaluationResult.from_dict(values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise click.ClickException(f"{path} is no result of evaluate --json: {error}") from None
    size = SimpleNamespace(size=result.bytes)
    run = SimpleNamespace(name=name, evaluations={path.name: result}, artifact=size)
    return scores_of(cast(Record, run))


if __name__ == "__main__":
    main()
