"""Which array of a .npz file is which: the names of Keras, of MedMNIST and of this program.

`x_train`, `train_images` and `images` are images; `y_train`, `train_labels` and `labels` are
labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt

from gencond_fast.data.formats.splits import TRAIN, kind_within, order_of, words_of

_IMAGES = {"images", "image", "imgs", "img", "x", "data", "samples", "pixels", "features"}
_LABELS = {"labels", "label", "y", "target", "targets"}
CLASSES = ("classes", "class_names", "label_names", "names")
_FLAT_SIDE = 4  # rows of 1 or 3 by fewer pixels than the square of this are images


@dataclass(frozen=True)
class Pair:
    """The names of the arrays of images and labels of one split."""

    images: str
    labels: str


@dataclass(frozen=True)
class Arrays:
    """What a file holds, by the names of its arrays.

    Attributes:
        train: of the training split, or of all there is; None where no two arrays fit together.
        tests: of the splits to test on by name, validation first.
        classes: the array of class names, or None.
        unread: arrays of no known meaning.
    """

    train: Pair | None
    tests: dict[str, Pair]
    classes: str | None
    unread: tuple[str, ...]


def sort_arrays(keys: Iterable[str]) -> Arrays:
    """Finds the images and labels of each split."""
    keys = sorted(keys)
    classes = next((name for name in CLASSES if name in keys), None)
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        split, role = _meaning(key)
        if role is not None and key != classes:
            found.setdefault(split, {}).setdefault(role, key)
    pairs = {
        split: Pair(roles["images"], roles["labels"])
        for split, roles in found.items()
        if len(roles) == 2
    }
    trains = [split for split in pairs if split and kind_within(split) == TRAIN]
    chosen = trains[0] if trains else ("" if "" in pairs else None)
    train = None if chosen is None else pairs[chosen]
    tests = {
        split: pairs[split]
        for split in sorted(pairs, key=order_of)
        if trains and split and kind_within(split) != TRAIN
    }
    used = {
        classes,
        *(key for pair in (train, *tests.values()) if pair for key in vars(pair).values()),
    }
    return Arrays(train, tests, classes, tuple(key for key in keys if key not in used))


def _meaning(key: str) -> tuple[str, str | None]:
    """The split that a name says, empty for none, and `images`, `labels` or None."""
    if "/" in key:  # a folder of an archive that NumPy has not written
        return "", None
    words = words_of(key)
    split = [word for word in words if kind_within(word) is not None]
    rest = [word for word in words if kind_within(word) is None]
    if len(rest) != 1 or len(split) > 1:
        return "", None
    role = "images" if rest[0] in _IMAGES else "labels" if rest[0] in _LABELS else None
    return (split[0] if split else ""), role


@dataclass(frozen=True)
class Form:
    """How an array of N images lies in memory.

    Attributes:
        shape: (H, W, channels) of an image.
        planar: whether all pixels of a channel come first, and then those of the next.
    """

    shape: tuple[int, int, int]
    planar: bool


def form_of(shape: tuple[int, ...]) -> Form | None:
    """The form of an array of images; None where it is none or several would fit.

    [N, H, W], [N, H, W, 1 or 3], [N, 1 or 3, H, W], flat squares of gray [N, H·W], and flat squares
    in either order [N, 1 or 3, H·W] and [N, H·W, 1 or 3].
    """
    if min(shape[1:], default=0) < 1:
        return None
    sides = shape[1:]
    if len(sides) == 1:
        side = _side(sides[0])
        return Form((side, side, 1), False) if side else None
    if len(sides) == 2:
        first, last = sides
        if first in (1, 3) and _side(last):
            return Form((_side(last), _side(last), first), True)
        if last in (1, 3) and _side(first):
            return Form((_side(first), _side(first), last), False)
        return Form((first, last, 1), False)
    if len(sides) != 3 or (sides[0] in (1, 3)) == (sides[2] in (1, 3)):
        return None
    if sides[0] in (1, 3):
        return Form((sides[1], sides[2], sides[0]), True)
    return Form((sides[0], sides[1], sides[2]), False)


def _side(pixels: int) -> int:
    """The side of a square of so many pixels; 0 where there is none, or it is tiny."""
    side = isqrt(pixels)
    return side if side * side == pixels and side >= _FLAT_SIDE else 0
