"""Data sets of pixel arrays: scikit-learn's digits, and .npz files."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import Block, Opened, Split, Subset
from gencond_fast.data.formats.assembling import assemble
from gencond_fast.data.formats.columns import Coded, merge_codes
from gencond_fast.data.formats.finding import Found
from gencond_fast.data.formats.npz import NpzSplit, read_npz
from gencond_fast.data.labels import stratified_split
from gencond_fast.data.text import clean_name
from gencond_fast.errors import InputError

DIGITS_VAL_FRACTION = 0.2


class ArraySplit(Split):
    """Images already in memory.

    Args:
        images: uint8 [N, H, W, 1 or 3].
        labels: int64 [N].
        name: of the array in messages.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, name: str) -> None:
        self._images = images
        self._name = name
        self.labels = labels
        self.shape = images.shape[1:]

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        for start in range(0, len(indices), block):
            yield self._images[indices[start : start + block]]

    def where(self, index: int) -> str:
        """See `Split.where`."""
        return f"image {index} of {self._name}"


def open_digits() -> Opened:
    """Opens scikit-learn's 1,797 digits, 8×8 gray; a fixed fifth of them is for validation."""
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    both = ArraySplit(images, labels, "digits")
    kept, apart = stratified_split(labels, DIGITS_VAL_FRACTION, seed=0)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    names = tuple(str(name) for name in digits.target_names)
    tests = {"val": Subset(both, apart)}
    return Opened(names, Subset(both, kept), digest, images.nbytes, tests=tests)


def open_npz(found: Found, root: Path) -> Opened:
    """Opens one .npz file for each split, or one for all of them.

    A file has `images` uint8 in a form of `array_names.form_of`, `labels` [N] or [N, 1] of numbers
    or texts and, optionally, `classes` [C], the class names. One file for several splits names
    them in its arrays, as `x_train` or `train_images`.

    Args:
        found: the file of each split.
        root: the folder that file names in the fingerprint are relative to.

    Raises:
        InputError: an array is missing, or its type, shape or values cannot be used.
    """
    if any(len(files) > 1 for files in (found.train, *found.tests.values())):
        raise InputError(
            f"{root} holds several .npz files for one split; keep one train.npz and one val.npz or "
            "test.npz."
        )
    table = read_npz(found.train[0])
    others = {name: read_npz(files[0]) for name, files in found.tests.items()}
    tables = [table, *others.values()]
    splits = {name: other.train for name, other in others.items()} or table.tests
    parts = [table.train, *splits.values()]
    listed = [
        table.classes,
        *(others[name].classes if others else table.classes for name in splits),
    ]
    coded = [
        (part.path, _coded(part.labels, classes))
        for part, classes in zip(parts, listed, strict=True)
    ]
    codes, names = merge_codes(coded)
    train, *tests = (
        (labels, partial(NpzSplit, part)) for labels, part in zip(codes, parts, strict=True)
    )
    unread = [name for each in tables for name in each.unread]
    notes = [f"left out: the arrays {', '.join(dict.fromkeys(unread))} of {root}"] if unread else []
    files = [each.train.path for each in tables]
    return assemble(
        train,
        dict(zip(splits, tests, strict=True)),
        names,
        location=str(files[0] if len(files) == 1 else root),
        files=files,
        root=root,
        notes=(*found.notes, *notes),
    )


def _coded(labels: np.ndarray, classes: tuple[str, ...] | None) -> Coded:
    """The labels of an array; texts and truth values are names."""
    if labels.dtype.kind in "iu":
        return Coded(labels.astype(np.int64), classes, classes is not None)
    values, codes = np.unique(labels, return_inverse=True)
    names = tuple(
        clean_name(value) if isinstance(value, str | bytes) else str(value)
        for value in values.tolist()
    )
    return Coded(codes.reshape(-1).astype(np.int64), names, False)
