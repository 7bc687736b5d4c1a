"""A part of the training images of a data set, as a data set of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gencond_fast.data.contract import Subset
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
    train = Subset(source.train, rows)
    train.reader = source.train.reader
    if source.train.skipping is not None:
        train.skipping = Skipping(np.flatnonzero(source.train.skipping(rows)), tell)
    digest = hashlib.sha256(source.fingerprint.encode() + rows.astype("<i8").tobytes())
    fingerprint = digest.hexdigest()[: len(source.fingerprint)]
    return replace(source, train=train, fingerprint=fingerprint)
