"""From splits with labels of their own to a data set with one numbering of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import Opened, Split, Subset, files_bytes
from gencond_fast.data.digest import files_digest
from gencond_fast.data.labels import number_classes
from gencond_fast.system.words import counted

Make = Callable[[np.ndarray], Split]
"""Makes a split from the final labels of all its images, int64 [N]."""


def assemble(
    train: tuple[np.ndarray, Make],
    tests: Mapping[str, tuple[np.ndarray, Make]],
    names: Sequence[str] | None,
    *,
    location: str,
    files: Sequence[Path],
    root: Path,
    notes: Sequence[str] = (),
) -> Opened:
    """Numbers the classes and makes the splits; images of tests without a label are left out.

    Args:
        train: the stored labels, integer [N], and what makes the split.
        tests: the same of each split to test on by name, the preferred one first.
        names: class names in label order, or None where the data set has none.
        location: the data set, for messages.
        files: all files, in order.
        root: the folder that file names in the fingerprint are relative to.
        notes: lines about what is left out or guessed.

    Raises:
        InputError: as `number_classes`.
    """
    found = number_classes(
        train[0], {name: labels for name, (labels, _) in tests.items()}, names, location
    )
    made: dict[str, Split] = {}
    unusable: dict[str, str] = {}
    told = [*notes, *found.notes]
    for name, (_, make) in tests.items():
        split = make(found.tests[name])
        labelled = np.flatnonzero(split.labels >= 0)
        missing = len(split) - len(labelled)
        if not missing:
            made[name] = split
            continue
        images = f"{counted(missing, 'image')} of the split {name} of {location}"
        reason = f"{images}, which {'has' if missing == 1 else 'have'} no label"
        told.append(f"left out: {reason}")
        if len(labelled):
            made[name] = Subset(split, labelled)
        else:
            unusable[name] = reason
    digest, compared = files_digest(files, root)
    return Opened(
        found.names,
        train[1](found.train),
        digest,
        files_bytes(files),
        tests=made,
        unusable=unusable,
        notes=tuple(told),
        compared=compared,
    )
