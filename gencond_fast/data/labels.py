"""Labels: checks, numbering 0 … C-1, and the stratified split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gencond_fast.data.text import clean_name
from gencond_fast.errors import InputError


@dataclass(frozen=True, eq=False)
class Numbered:
    """Labels as the program has them.

    Attributes:
        names: the name of label k at place k.
        train: int64 [N].
        tests: int64 [M] of each split to test on; -1 where an image has no label.
        notes: a line about names that had to be changed.
    """

    names: tuple[str, ...]
    train: np.ndarray
    tests: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def number_classes(
    train: np.ndarray,
    tests: Mapping[str, np.ndarray],
    names: Sequence[str] | None,
    location: str,
) -> Numbered:
    """Numbers the classes of stored integer labels 0 … C-1, and names them.

    With `names`, label k means names[k], and every class needs a training image. Without, the
    sorted distinct training labels become 0 … C-1, and their values become the names. Classes of
    one name get their labels behind it, as ImageNet's two called `crane` do. Negative labels of
    tests mean that there is none, as on the Hugging Face hub.

    Args:
        train: integer [N].
        tests: integer [M] of each split to test on.
        names: class names in label order, or None where the data set has none.
        location: the data set, for messages.

    Raises:
        InputError: a training label is negative, a label has no name or no training image, or N
            is 0.
    """
    if len(train) == 0:
        raise InputError(f"{location} holds no training images; add images and their labels.")
    if train.min() < 0:
        raise InputError(
            f"{location} has the negative label {train.min()} in its train split; labels must be 0 "
            "or greater, so remove the unlabelled images or label them."
        )
    train = train.astype(np.int64)
    found = {name: np.maximum(labels.astype(np.int64), -1) for name, labels in tests.items()}
    if names is None:
        values = np.unique(train)
        for name, labels in found.items():
            known = labels >= 0
            _refuse_unknown(labels[known & ~np.isin(labels, values)], name, location)
            found[name] = np.where(known, np.searchsorted(values, labels), -1)
        texts = tuple(str(value) for value in values)
        return Numbered(texts, np.searchsorted(values, train), found)
    for labels in (train, *found.values()):
        if len(labels) and labels.max() >= len(names):
            raise InputError(
                f"{location} has the label {labels.max()} but names only {len(names)} classes; "
                "correct the label or add the missing class name."
            )
    counts = np.bincount(train, minlength=len(names))
    if not counts.all():
        empty = names[int(np.argmin(counts))]
        raise InputError(
            f"{location} names the class {empty!r} but has no training image of it; add images or "
            "remove the class."
        )
    return Numbered(*_told_apart([clean_name(name) for name in names], train, found))


def _told_apart(
    names: list[str], train: np.ndarray, tests: dict[str, np.ndarray]
) -> tuple[tuple[str, ...], np.ndarray, dict[str, np.ndarray], tuple[str, ...]]:
    """Names of which no two are the same, and a line about those that had to be changed."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if not twice:
        return tuple(names), train, tests, ()
    changed = [f"{n} ({label})" if counts[n] > 1 else n for label, n in enumerate(names)]
    same = [shown for shown, name in zip(changed, names, strict=True) if name == twice[0]]
    note = f"{counts[twice[0]]} classes are called {twice[0]!r}: here they are {', '.join(same)}"
    more = f", and {len(twice) - 1} more names stand for several classes" if len(twice) > 1 else ""
    return tuple(changed), train, tests, (note + more,)


def _refuse_unknown(unknown: np.ndarray, split: str, location: str) -> None:
    if len(unknown):
        raise InputError(
            f"{location} has the label {unknown.min()} in its {split} split but not in its "
            "training split; add training images of it or remove it."
        )


def refuse_empty_class(counts: np.ndarray, names: Sequence[str], data: str) -> None:
    """Raises InputError if all images of a class were left out, and names the first such class.

    Args:
        counts: int64 [C], images of each class that are left.
        names: of the C classes.
        location: the data set, for the message.
    """
    if not counts.all():
        raise InputError(
            f"{data} has no image of the class {names[int(np.argmin(counts))]!r} that can be "
            "decoded; replace its images (`gencond-fast data check` lists them) or leave the class "
            "out with --classes."
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
