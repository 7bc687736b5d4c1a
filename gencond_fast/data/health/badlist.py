"""The list of undecodable images that a check leaves for later runs.

The cache keeps it under the digest of the data and the version of the decoder. So after a file has
changed, or with another decoder, there is no list until the next check.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL

from gencond_fast.system.cache import cache_directory, cache_key, load_json, save_json


@dataclass(frozen=True)
class BadEntry:
    """An image that could not be read.

    Attributes:
        split: `train` or `val`.
        row: of the image in the whole split of the container.
        where: names the image.
        reason: what is wrong with it.
    """

    split: str
    row: int
    where: str
    reason: str


@dataclass(frozen=True)
class BadList:
    """The result of a check: how many images it covered, and those that could not be read."""

    checked: int
    bad: tuple[BadEntry, ...]

    def rows(self, split: str) -> np.ndarray:
        """Rows of the bad images of `train` or `val` in the container: ascending int64."""
        return np.array(sorted(e.row for e in self.bad if e.split == split), dtype=np.int64)


def bad_list_path(digest: str, classes: tuple[str, ...] | None) -> Path:
    """The file of the list of a data set, or of some of its classes.

    Raises:
        OSError: the cache cannot be made.
    """
    key = cache_key(kind="check", data=digest, classes=classes, decoder=PIL.__version__)
    return cache_directory("checks") / f"{key}.json"


def write_bad_list(path: Path, found: BadList) -> None:
    """Writes the list atomically.

    Raises:
        OSError: it cannot be written.
    """
    save_json(path, asdict(found))


def read_bad_list(digest: str, classes: tuple[str, ...] | None) -> BadList | None:
    """The list of a check of all classes, else of a check of just `classes`; None without a check.

    A damaged list counts as no check.
    """
    for checked in dict.fromkeys((None, classes)):
        try:
            plain = load_json(bad_list_path(digest, checked))
            bad = tuple(BadEntry(**entry) for entry in plain["bad"])
            return BadList(plain["checked"], bad)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged list is as good as none
    return None
