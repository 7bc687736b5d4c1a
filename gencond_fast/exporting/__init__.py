"""The stored samples in formats that other programs read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from gencond_fast.errors import InputError
from gencond_fast.exporting.files import write_grid, write_npz, write_parquet, write_webdataset
from gencond_fast.exporting.folders import write_image_folder, write_pt
from gencond_fast.exporting.samples import Samples
from gencond_fast.store.artifact import load

_WRITERS: dict[str, Callable[[Samples, Path], Path]] = {
    "imagefolder": write_image_folder,
    "npz": write_npz,
    "pt": write_pt,
    "webdataset": write_webdataset,
    "parquet": write_parquet,
    "grid": write_grid,
}

FORMATS = tuple(_WRITERS)

__all__ = ["FORMATS", "export"]


def export(
    run: str | Path,
    out: str | Path,
    *,
    format: str = "imagefolder",
    per_class: int | None = None,
    tell: Callable[[str], None] = warnings.warn,
) -> Path:
    """Decodes stored samples and writes them; returns the file or folder written.

    Samples are ordered by class. Where the file has soft labels, all formats but `imagefolder` and
    `grid` have them too, as probabilities float32 [C] of each sample.

    - `imagefolder`: OUT/CLASS/00000.png. Readers number classes by their sorted names; where the
      file has them in another order, `tell` is called with a line that says so.
    - `npz`: OUT/samples.npz with images uint8 [n, S, S, channels], labels int64 [n], classes, and
      soft_labels.
    - `pt`: OUT/images.pt, float32 [n, channels, S, S] normalised by mean and deviation of the
      file and not rounded to levels, OUT/labels.pt, int64 [n], and OUT/soft_labels.pt.
    - `webdataset`: OUT/samples.tar with KEY.png, KEY.cls (the class, an int), KEY.txt (its name)
      and KEY.soft.npy.
    - `parquet`: OUT/train-00000-of-00001.parquet in the layout of the hub, with columns image,
      label and soft_label.
    - `grid`: OUT/samples.png (at most 20 classes and 12 samples of each), for people.

    Args:
        run: run directory or condensed file.
        out: folder, made if missing; for `imagefolder` and `pt` it must not exist yet or be empty.
        format: one of `FORMATS`.
        per_class: samples of each class, all that are stored when None.
        tell: called with a line about what readers will take otherwise than the file has it.

    Raises:
        InputError: the file cannot be used, a class holds fewer samples than asked for, the
            format is unknown, class names make no folder names, or `out` is not empty.
        OSError: `out` cannot be written or the disk is full.
    """
    if format not in _WRITERS:
        raise InputError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    artifact = load(run)
    stored = artifact.metadata.store.per_class
    count = stored if per_class is None else per_class
    if count < 1:
        raise InputError(f"option 'per_class' is {count}: it must be 1 or more")
    if count > stored:
        raise InputError(f"{run} holds {stored} samples of each class: --per-class {count} is more")
    written = _WRITERS[format](Samples(artifact, count), Path(out))
    if format == "imagefolder":
        _tell_order(artifact.metadata.class_names, tell)
    return written


def _tell_order(names: Sequence[str], tell: Callable[[str], None]) -> None:
    """A line about classes that readers of image folders number otherwise."""
    ordered = sorted(names)
    place = next((i for i, name in enumerate(ordered) if name != names[i]), None)
    if place is not None:
        tell(
            f"note: readers of image folders sort classes by name: their class {place} is "
            f"{ordered[place]!r}, which is class {names.index(ordered[place])} of the file; go by "
            "the names of the folders, or export with --format npz, which keeps the order"
        )
