"""Exports that are a folder of files, which appears whole or not at all."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor

from gencond_fast.data.normalise import Normalisation
from gencond_fast.errors import InputError
from gencond_fast.exporting.samples import Samples
from gencond_fast.system.files import new_folder


def write_image_folder(samples: Samples, out: Path) -> Path:
    """OUT/CLASS/00000.png; see `export`."""
    names = samples.metadata.class_names
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise InputError(f"class name {name!r} makes no folder: use --format npz")
    _check_empty(out)
    with new_folder(out) as made:
        for name in names:
            (made / name).mkdir()
        pngs = itertools.chain.from_iterable(samples.pngs())
        for place, (label, png) in enumerate(zip(samples.labels.tolist(), pngs, strict=True)):
            (made / names[label] / f"{place % samples.per_class:05d}.png").write_bytes(png)
    return out


def write_pt(samples: Samples, out: Path) -> Path:
    """OUT/images.pt and OUT/labels.pt, and OUT/soft_labels.pt; see `export`."""
    _check_empty(out)
    spec = samples.metadata.store
    normalise = Normalisation(samples.metadata.mean, samples.metadata.std)
    images = torch.empty(len(samples), spec.channels, spec.image_size, spec.image_size)
    done = 0
    for batch in samples.images():
        images[done : done + len(batch)] = normalise(batch)
        done += len(batch)
    soft = samples.soft_labels()
    with new_folder(out) as made:
        _save(images, made / "images.pt")
        _save(samples.labels, made / "labels.pt")
        if soft is not None:
            _save(torch.from_numpy(soft), made / "soft_labels.pt")
    return out


def _check_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty: give another --out")


def _save(tensor: Tensor, path: Path) -> None:
    with path.open("wb") as file:  # to a path it would not raise OSError when the disk is full
        torch.save(tensor, file)
