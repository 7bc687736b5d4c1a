"""Images that cannot be decoded: how they are told apart, and how a run leaves them out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gencond_fast.errors import InputError

_REMEDY = "replace or remove it"


class BadImage(InputError):
    """One image whose content cannot be decoded, whoever reads it and whenever.

    An image that is gone or may not be read is another `InputError`: that may come and go, so it
    must never decide silently what a run sees.

    Attributes:
        where: names the image.
        reason: what is wrong with it, as the rest of a sentence.
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
    """The images of one split that are left out of everything.

    Those known from a check are never touched; those met while reading are named once. Which of
    the two an image is makes no difference to any result.

    Args:
        known: ascending int64 rows of the split.
        tell: called with a line for each image that is met.

    Attributes:
        known: as given.
        met: places of the images met so far, and what is wrong with them.
    """

    def __init__(self, known: np.ndarray, tell: Callable[[str], None]) -> None:
        self.known = known
        self.met: dict[int, str] = {}
        self._tell = tell

    def __len__(self) -> int:
        return len(self.known) + len(self.met)

    def __contains__(self, row: int) -> bool:
        at = int(np.searchsorted(self.known, row))
        return row in self.met or (at < len(self.known) and self.known[at] == row)

    def rows(self) -> np.ndarray:
        """Ascending int64 rows of every image left out so far."""
        met = list(self.met)  # at once: another thread may be reading, and meet one more
        return np.union1d(self.known, np.array(met, np.int64))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Which of the images at `rows` are left out: bool, of the shape of `rows`."""
        return np.isin(rows, self.rows())

    def meet(self, row: int, error: BadImage) -> None:
        """Notes an image that turned out to be bad, and names it the first time."""
        if row not in self.met:
            self.met[row] = error.reason
            self._tell(f"left out: {error.where} {error.reason}")
