"""The stored samples in formats that other programs read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from gencond_fast.artifact import Artifact, load
from gencond_fast.errors import InputError
from gencond_fast.files import write_atomic
from gencond_fast.report.figures import sample_grid, save_png, to_picture, to_uint8

FORMATS = ("imagefolder", "npz", "grid")

_BATCH = 64  # keeps the maps inside the decoder of large images to a gigabyte or two


def export(
    run: str | Path, out: str | Path, *, format: str = "imagefolder", per_class: int | None = None
) -> Path:
    """Decodes stored samples and writes them; returns the file or folder written.

    `imagefolder` makes OUT/CLASS/00000.png, `npz` OUT/samples.npz (images uint8 NHWC, labels
    int64, classes; soft_labels float32 [n, C] if the file has them), `grid` OUT/samples.png (at
    most 20 classes and 12 samples of each).

    Args:
        run: run directory or condensed file.
        out: folder, made if missing; an image folder must not exist yet or be empty.
        format: one of `FORMATS`.
        per_class: samples of each class, all that are stored when None.

    Raises:
        InputError: the file cannot be used, a class holds fewer samples than asked for, the
            format is unknown, class names make no folder names, or `out` is not empty.
        OSError: `out` cannot be written or the disk is full.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    artifact = load(run)
    stored = artifact.metadata.store.per_class
    count = stored if per_class is None else per_class
    if count < 1:
        raise InputError(f"option 'per_class' is {count}: it must be 1 or more")
    if count > stored:
        raise InputError(f"{run} holds {stored} samples of each class: --per-class {count} is more")
    folder = Path(out)
    if format == "imagefolder":
        _write_folder(artifact, folder, count)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if format == "grid":
        path = folder / "samples.png"
        save_png(sample_grid(artifact.store, artifact.metadata.class_names, columns=count), path)
    else:
        path = folder / "samples.npz"
        _write_npz(artifact, path, count)
    return path


def _decoded(artifact: Artifact, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of images uint8 [B, S, S, channels] and labels int64 [B], class after class."""
    with torch.no_grad():
        for part in _chosen(artifact, count).split(_BATCH):
            yield to_uint8(artifact.store(part)), artifact.store.labels(part).numpy()


def _chosen(artifact: Artifact, count: int) -> torch.Tensor:
    """The first `count` samples of each class: int64 [C * count]."""
    spec = artifact.metadata.store
    return (
        torch.arange(spec.num_classes)[:, None] * spec.per_class + torch.arange(count)
    ).flatten()


def _write_npz(artifact: Artifact, path: Path, count: int) -> None:
    images, labels = zip(*_decoded(artifact, count), strict=True)
    arrays = {
        "images": np.concatenate(images),
        "labels": np.concatenate(labels),
        "classes": np.array(artifact.metadata.class_names),
    }
    if artifact.metadata.store.soft_labels:
        arrays["soft_labels"] = artifact.store.targets(_chosen(artifact, count)).numpy()

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomic(path, write)


def _write_folder(artifact: Artifact, folder: Path, count: int) -> None:
    """Fills a temporary folder and renames it, so that OUT is never half-written."""
    names = artifact.metadata.class_names
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise InputError(f"class name {name!r} makes no folder: use --format npz")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: give another --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        place = 0
        made = temporary / "made"  # unlike its parent, with the permissions of any new folder
        made.mkdir()
        for name in names:
            (made / name).mkdir()
        for images, labels in _decoded(artifact, count):
            for pixels, label in zip(images, labels, strict=True):
                target = made / names[label] / f"{place % count:05d}.png"
                to_picture(pixels).save(target)
                place += 1
        made.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
