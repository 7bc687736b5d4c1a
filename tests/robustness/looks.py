"""Trees of many classes from photographs of few: a class is a kind of photograph and a look.

    python -m tests.robustness.looks PHOTOGRAPHS TREE --classes 1000 --images 100

A look is a turn of the hues, which way is up, and how wide stripes across the picture are, so that
classes differ in what augmentations leave alone. Test images are made of test photographs.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.trees import LONG_AGO
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.source import open_source
from gencond_fast.data.stream import stream

HUES, TURNS, STRIPES = 10, (0, 180), (0, 3, 6, 12, 24)  # pixels of 64
LOOKS = HUES * len(TURNS) * len(STRIPES)

_SHARE = (0.6, 1.0)  # of a photograph's side that an image shows
_SIDES = (64, 97)  # of an image, in pixels
_DARK = 0.45  # of the brightness, under a stripe
_QUALITY = 85


@dataclass(frozen=True, eq=False)
class Photographs:
    """Decoded photographs of a split.

    Attributes:
        images: uint8 [N, S, S, 3].
        rows: of each kind, its rows.
    """

    images: np.ndarray
    rows: list[np.ndarray]


def read(split: ImageReader, side: int) -> Photographs:
    """All photographs of a split, squares of `side` pixels, held in memory."""
    images = np.empty((len(split), side, side, 3), np.uint8)
    for batch in stream(split, channels=3, image_size=side, batch_size=256):
        images[batch.indices.numpy()] = batch.images.permute(0, 2, 3, 1).numpy()
    kinds = range(int(split.labels.max()) + 1)
    return Photographs(images, [np.flatnonzero(split.labels == kind) for kind in kinds])


def make(photographs: str, tree: Path, classes: int, images: int, tests: int, seed: int) -> None:
    """Writes TREE/train/CLASS and TREE/val/CLASS, `images` and `tests` JPEGs a class.

    The same arguments make the same files, dated long ago, so that an index of them is kept.
    """
    source = open_source(photographs)
    if source.val is None:
        raise click.ClickException(f"{photographs} has no test photographs")
    if classes > (most := LOOKS * len(source.class_names)):
        raise click.ClickException(f"{photographs} gives {most} classes at most, not {classes}")
    with tempfile.TemporaryDirectory(prefix=f".{tree.name}-", dir=tree.parent) as unfinished:
        for name, split, count in (("train", source.train, images), ("val", source.val, tests)):
            taken = read(split, source.native_size)
            folder = Path(unfinished) / "tree" / name
            write = partial(_write_class, folder, count, seed)
            # forked workers have the photographs without a copy
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(None, context, _take, (taken,)) as pool:
                list(pool.map(write, range(classes), chunksize=8))
            os.utime(folder, ns=(LONG_AGO, LONG_AGO))
        os.utime(folder.parent, ns=(LONG_AGO, LONG_AGO))
        folder.parent.rename(tree)


_taken: list[Photographs] = []  # of a worker


def _take(photographs: Photographs) -> None:
    _taken[:] = [photographs]


def _write_class(folder: Path, count: int, seed: int, label: int) -> None:
    """One class: kinds change fastest, so that few classes are of as many kinds as can be."""
    taken = _taken[0]
    look, kind = divmod(label, len(taken.rows))
    rng = np.random.default_rng([seed, label, folder.name == "val"])
    place = folder / f"c{label:04d}"
    place.mkdir(parents=True)
    for number in range(count):
        photograph = Image.fromarray(taken.images[rng.choice(taken.rows[kind])])
        path = place / f"{place.name}_{number:05d}.jpg"
        looking(_crop(photograph, rng), look).save(path, "JPEG", quality=_QUALITY)
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    os.utime(place, ns=(LONG_AGO, LONG_AGO))


def _crop(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random square of a random size, mirrored or not."""
    shown = round(photograph.width * rng.uniform(*_SHARE))
    left, top = rng.integers(0, photograph.width - shown + 1, 2)
    side = int(rng.integers(*_SIDES))
    box = (left, top, left + shown, top + shown)
    image = photograph.resize((side, side), Image.Resampling.BILINEAR, box=box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def looking(image: Image.Image, look: int) -> Image.Image:
    """An image as a look has it; look 0 leaves it as it is."""
    look, hue = divmod(look, HUES)
    stripe, turn = divmod(look, len(TURNS))
    pixels = np.array(image.convert("HSV"))
    pixels[..., 0] += np.uint8(256 * hue // HUES)  # wraps around, as hues do
    if width := STRIPES[stripe] * image.height / 64:
        dark = (np.arange(image.height) // width).astype(int) % 2 == 1
        pixels[dark, :, 2] = (pixels[dark, :, 2] * _DARK).astype(np.uint8)
    return Image.fromarray(pixels, "HSV").convert("RGB").rotate(TURNS[turn])


@click.command()
@click.argument("photographs")
@click.argument("tree", type=click.Path(path_type=Path, exists=False))
@click.option("--classes", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--images", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--tests", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(photographs: str, tree: Path, **options: int) -> None:
    """Make a TREE of many classes from the PHOTOGRAPHS of a data set."""
    make(photographs, tree, **options)


if __name__ == "__main__":
    main()
