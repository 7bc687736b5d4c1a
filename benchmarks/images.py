"""The images that a benchmark of reading reads: in files, in archives, and as Pillow has them."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.reading import Job
from benchmarks.trees import LONG_AGO
from gencond_fast.data import Split, open_source
from gencond_fast.data.crop import RandomCrop
from gencond_fast.data.readers.batch import in_order
from gencond_fast.data.resize import central
from gencond_fast.errors import InputError

_SHARDS_PER_WORKER = 4
_BLOCK = 64


@contextmanager
def prepared(
    data: str, size: int, images: int, batch: int, workers: int, random: bool
) -> Iterator[Job]:
    """Copies images of a source into a folder and archives that last as long as the context.

    Args:
        data: path or known name of a source whose images are encoded.
        size: S, height and width of the results.
        images: how many an epoch reads at least; where the source has more, they are spread evenly
            over it, where it has fewer, they are read several times.
        batch: images in a batch.
        workers: threads or processes that decode.
        random: whether windows are random.

    Raises:
        InputError: the source cannot be read, or its images are arrays.
    """
    train = open_source(data).train
    rows = np.unique(np.linspace(0, len(train) - 1, min(images, len(train))).astype(np.int64))
    crop = RandomCrop(seed=0, epoch=0) if random else None
    with tempfile.TemporaryDirectory(prefix="gencond-data-") as place:
        root = Path(place) / "images"
        _copy(train.split, rows, root, data)
        split = open_source(str(root)).train
        files = [split.where(row) for row in range(len(split))]
        windows = _windows(files, crop)
        expected = Path(place) / "expected.npy"
        np.save(expected, np.stack(list(map(partial(_resized, size), files, windows))))
        whole = None if random else Path(place) / "whole.npy"
        if whole is not None:
            np.save(whole, np.stack([_resized_whole(file, size) for file in files]))
        yield Job(
            root=str(root),
            files=files,
            labels=split.labels,
            shards=_archives(files, split.labels, Path(place), _SHARDS_PER_WORKER * workers),
            windows=windows,
            crop=crop,
            size=size,
            batch=batch,
            passes=-(-images // len(files)),
            workers=workers,
            expected=str(expected),
            expected_whole=None if whole is None else str(whole),
        )


def _copy(split: Split, rows: np.ndarray, root: Path, data: str) -> None:
    with in_order(split, rows, _BLOCK) as pairs:
        for part, block in pairs:
            if isinstance(block, np.ndarray):
                raise InputError(f"{data} holds arrays; name a source of encoded images.")
            for load, row in zip(block, part.rows.tolist(), strict=True):
                file = root / f"{split.labels[row]:06d}" / f"{row:09d}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(load())
    for path in (root, *root.iterdir()):
        os.utime(path, ns=(LONG_AGO, LONG_AGO))


def _windows(files: list[str], crop: RandomCrop | None) -> np.ndarray:
    sizes = np.array([ImageOps.exif_transpose(Image.open(file)).size for file in files])
    if crop is not None:
        return crop.windows(crop.draws(np.arange(len(files))), *sizes.T)
    return np.array([central(width, height) for width, height in sizes.tolist()])


def _upright(file: str) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(file)).convert("RGB")


def _resized(size: int, file: str, window: np.ndarray) -> np.ndarray:
    left, top, right, bottom = window.tolist()
    cut = _upright(file).crop((left, top, right, bottom))
    return np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))


def _resized_whole(file: str, size: int) -> np.ndarray:
    image = _upright(file)
    short = min(image.size)
    # sizes and places are rounded as DALI rounds them
    width, height = (int(side * size / short + 0.5) for side in image.size)
    left, top = (width - size + 1) // 2, (height - size + 1) // 2
    whole = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(whole.crop((left, top, left + size, top + size)))


def _archives(files: list[str], labels: np.ndarray, place: Path, count: int) -> list[str]:
    made = []
    for number, rows in enumerate(np.array_split(np.arange(len(files)), count)):
        path = place / f"{number:04d}.tar"
        with tarfile.open(path, "w") as archive:
            for row in rows.tolist():
                archive.add(files[row], f"{row:09d}.jpg")
                label = str(labels[row]).encode()
                about = tarfile.TarInfo(f"{row:09d}.cls")
                about.size = len(label)
                archive.addfile(about, io.BytesIO(label))
        made.append(str(path))
    return made
