"""Data sets of pixel arrays: scikit-learn's digits, and .npz files."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import Block, Opened, Split, Subset, files_bytes, files_digest
from gencond_fast.data.formats.npz import NpzSplit, read_npz
from gencond_fast.data.labels import number_classes, stratified_split
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
    return Opened(names, Subset(both, kept), Subset(both, apart), digest, images.nbytes)


def open_npz(train: Path, val: Path | None, root: Path) -> Opened:
    """Opens one .npz file, or a pair of them for training and validation.

    Args:
        train: file with `images` uint8 [N, H, W] or [N, H, W, 1 or 3], `labels` integer [N] and,
            optionally, `classes` [C], the class names.
        val: file of the same form, or None.
        root: the folder that file names in the fingerprint are relative to.

    Raises:
        InputError: a key is missing, or its type, shape or values cannot be used.
    """
    table = read_npz(train)
    other = None if val is None else read_npz(val)
    if other is not None and other.classes is not None and other.classes != table.classes:
        raise InputError(
            f"{val} and {train} have different `classes`; give both files the same names in "
            "the same order."
        )
    names, labels, val_labels = number_classes(
        table.labels,
        None if other is None else other.labels,
        table.classes,
        str(train if val is None else root),
    )
    val_split = None
    if other is not None and val_labels is not None:
        val_split = NpzSplit(other, val_labels)
    files = [train] if val is None else [train, val]
    digest = files_digest(files, root)
    return Opened(names, NpzSplit(table, labels), val_split, digest, files_bytes(files))
