"""Labels: checks, numbering 0 … C-1, and the stratified split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gencond_fast.errors import InputError


def number_classes(
    train: np.ndarray,
    val: np.ndarray | None,
    names: Sequence[str] | None,
    location: str,
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray | None]:
    """Numbers the classes of stored integer labels 0 … C-1, and names them.

    With `names`, label k means names[k], and every class needs a training image. Without, the
    sorted distinct training labels become 0 … C-1, and their values become the names.

    Args:
        train: integer [N].
        val: integer [M], or None.
        names: class names in label order, or None where the data set has none.
        location: the data set, for messages.

    Returns:
        (class names, train labels int64 [N], val labels int64 [M] or None).

    Raises:
        InputError: a label is negative, has no name or no training image, or N is 0.
    """
    if len(train) == 0:
        raise InputError(f"{location} holds no training images; add images and their labels.")
    for split, labels in (("train", train), ("validation", val)):
        if labels is not None and len(labels) and labels.min() < 0:
            raise InputError(
                f"{location} has the negative label {labels.min()} in its {split} split; "
                "labels must be 0 or greater, so remove the unlabelled images or label them."
            )
    if names is None:
        values = np.unique(train)
        names = [str(value) for value in values]
        train = np.searchsorted(values, train)
        if val is not None:
            _refuse_unknown(val[~np.isin(val, values)], location)
            val = np.searchsorted(values, val)
    else:
        for labels in (train, val):
            if labels is not None and len(labels) and labels.max() >= len(names):
                raise InputError(
                    f"{location} has the label {labels.max()} but names only {len(names)} "
                    "classes; correct the label or add the missing class name."
                )
        counts = np.bincount(train, minlength=len(names))
        if not counts.all():
            empty = names[int(np.argmin(counts))]
            raise InputError(
                f"{location} names the class {empty!r} but has no training image of it; "
                "add images or remove the class."
            )
    as_int64 = None if val is None else val.astype(np.int64)
    return tuple(names), train.astype(np.int64), as_int64


def _refuse_unknown(unknown: np.ndarray, location: str) -> None:
    if len(unknown):
        raise InputError(
            f"{location} has the label {unknown.min()} in its validation split but not in its "
            "training split; add training images of it or remove it."
        )


def shuffled_rank(labels: np.ndarray, seed: int) -> np.ndarray:
    """The place of every image in a random order of the images of its class: int64 [N].

    For example, `shuffled_rank(labels, seed) < 10` chooses ten random images of each class.

    Args:
        labels: int64 [N], values 0 … C-1.
        seed: chooses the order.
    """
    keys = np.random.default_rng(seed).random(len(labels))
    order = np.lexsort((keys, labels))
    counts = np.bincount(labels)
    firsts = np.cumsum(counts) - counts
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(firsts, counts)
    return rank


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sets a share of every class apart; the same images for the same labels and seed.

    Of n images of a class, round(n · fraction) are set apart, at least one and at most n-1. A class
    of one image keeps it.

    Args:
        labels: int64 [N], values 0 … C-1.
        fraction: the share that is set apart, above 0 and below 1.
        seed: chooses the images.

    Returns:
        (rows kept, rows set apart), both ascending int64; together they are 0 … N-1.
    """
    counts = np.bincount(labels)
    apart = np.floor(counts * fraction + 0.5).astype(np.int64)
    apart = np.minimum(np.maximum(apart, 1), counts - 1)
    chosen = shuffled_rank(labels, seed) < apart[labels]
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
