"""A part of the images of a data set, as a data set of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gencond_fast.data.contract import Split, Subset
from gencond_fast.data.skipping import Skipping
from gencond_fast.data.source import Source


def part_of(source: Source, rows: np.ndarray, tell: Callable[[str], None]) -> Source:
    """The same data set with some of its training images alone.

    It has a fingerprint of its own, so nothing computed from all images is taken for its.

    Args:
        source: what they are taken of.
        rows: strictly ascending int64 rows of the training split, at least one of each class.
        tell: called with a line for each bad image that is met, where those are left out.
    """
    train = some_of(source.train, rows, tell)
    digest = hashlib.sha256(source.fingerprint.encode() + rows.astype("<i8").tobytes())
    fingerprint = digest.hexdigest()[: len(source.fingerprint)]
    return replace(source, train=train, fingerprint=fingerprint)


def some_of(split: Split, rows: np.ndarray, tell: Callable[[str], None]) -> Split:
    """Some images of a split, read and left out as there; arguments as `part_of`."""
    some = Subset(split, rows)
    some.reader = split.reader
    if split.skipping is not None:
        some.skipping = Skipping(np.flatnonzero(split.skipping(rows)), tell)
    return some
