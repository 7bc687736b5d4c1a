"""Images that cannot be decoded: the error that names one, and the list of those left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gencond_fast.errors import InputError

_REMEDY = "replace or remove it"


class BadImage(InputError):
    """The content of one image cannot be decoded, by any reader at any time.

    An image that is missing or may not be read is a plain `InputError` instead. That can change
    from one run to the next, so such an image is never left out silently.

    Attributes:
        where: names the image.
        reason: what is wrong with it, as the end of the sentence that `where` begins.
    """

    def __init__(self, where: str, reason: str, remedy: str = _REMEDY) -> None:
        self.where = where
        self.reason = reason
        self._remedy = remedy
        super().__init__(
            f"{where} {reason}; {remedy}, or leave out such images with --on-bad-image skip "
            "(`gencond-fast data check` lists them)."
        )

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str, str]]:
        return BadImage, (self.where, self.reason, self._remedy)


class Skipping:
    """The images of one split that take part in nothing because they cannot be decoded.

    Images in `known` are never read. Images that turn out to be undecodable while they are read
    are added, and reported once. Results do not depend on which of the two an image is.

    Args:
        known: ascending int64 rows, from `gencond-fast data check`.
        tell: called with a line for each image that is added.

    Attributes:
        known: as given.
        found: the rows added so far, and what is wrong with each.
    """

    def __init__(self, known: np.ndarray, tell: Callable[[str], None]) -> None:
        self.known = known
        self.found: dict[int, str] = {}
        self._tell = tell

    def __len__(self) -> int:
        return len(self.known) + len(self.found)

    def __contains__(self, row: int) -> bool:
        at = int(np.searchsorted(self.known, row))
        return row in self.found or (at < len(self.known) and self.known[at] == row)

    def rows(self) -> np.ndarray:
        """Rows of all images left out so far: ascending int64."""
        found = list(self.found)  # copied at once: another thread may add one meanwhile
        return np.union1d(self.known, np.array(found, np.int64))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Which of the images at `rows` are left out: bool, of the shape of `rows`."""
        return np.isin(rows, self.rows())

    def add(self, row: int, error: BadImage) -> None:
        """Leaves out an image that turned out to be undecodable, and reports it the first time."""
        if row not in self.found:
            self.found[row] = error.reason
            self._tell(f"left out: {error.where} {error.reason}")
