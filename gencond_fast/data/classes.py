"""Some of the classes of a data set, chosen by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from gencond_fast.data.contract import Split, Subset
from gencond_fast.data.text import clean_name, decode_text
from gencond_fast.errors import InputError
from gencond_fast.system.files import expanded


class MissingClass(InputError):
    """The class `name` was asked for and is not in the data."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


def parse_classes(text: str) -> tuple[str, ...]:
    """Class names as a user gives them: `cat,dog`, or the path of a file with one name a line.

    Raises:
        InputError: `text` names no class, or the file cannot be read.
    """
    lines = _lines(text)
    names = (name.strip() for name in (clean_name(text).split(",") if lines is None else lines))
    kept = tuple(dict.fromkeys(name for name in names if name))
    if not kept:
        raise InputError(f"--classes {text!r} names no class; give names between commas or a file.")
    return kept


def _lines(text: str) -> list[str] | None:
    """The lines of a file; None where the text is no path of one."""
    try:
        path = expanded(text)
        if not path.is_file():
            return None
    except (OSError, RuntimeError, ValueError):  # names of many classes are too long for a path
        return None
    try:
        found = decode_text(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"--classes {text} cannot be read ({error.strerror}); repair it."
        ) from None
    if "\0" in found:
        raise InputError(f"--classes {text} is no text; give a file with one name a line.")
    return found.splitlines()


def find_classes(
    wanted: Sequence[str], names: Sequence[str], titles: Sequence[str] | None, location: str
) -> list[int]:
    """The labels of the wanted classes, in the order of `wanted`.

    Args:
        wanted: names of classes.
        names: the class names of the data set in label order.
        titles: their readable names in the same order, for suggestions where a name is unknown.
        location: the data set, for messages.

    Raises:
        MissingClass: a class is not in the data set.
        InputError: fewer than two are wanted.
    """
    number = {clean_name(name): label for label, name in enumerate(names)}
    wanted = [clean_name(name) for name in wanted]
    for name in wanted:
        if name not in number:
            hint = _hint(name, names, titles)
            raise MissingClass(name, f"{location} has no class {name!r}{hint}")
    if len(set(wanted)) < 2:
        raise InputError(f"only the class {wanted[0]!r} is chosen; choose at least two.")
    return [number[name] for name in dict.fromkeys(wanted)]


def select(split: Split, labels: Sequence[int], num_classes: int) -> Split:
    """The images of the classes `labels`, whose class `labels[k]` becomes label k."""
    renumbered = np.full(num_classes, -1, dtype=np.int64)
    renumbered[list(labels)] = np.arange(len(labels))
    new = renumbered[split.labels]
    rows = np.flatnonzero(new >= 0)
    return Subset(split, rows, new[rows])


def _hint(name: str, names: Sequence[str], titles: Sequence[str] | None) -> str:
    """The end of the sentence: which classes may have been meant."""
    meant: dict[str, list[str]] = {}  # several classes may share a title, such as crane
    for known, title in zip(names, titles or names, strict=True):
        shown = known if titles is None else f"{known} ({title})"
        for word in (known, *title.split(",")):
            meant.setdefault(word.strip().lower(), []).append(shown)
    close = difflib.get_close_matches(name.lower(), meant, n=3, cutoff=0.6)
    if not close:
        return f"; it has {len(names)}, such as {', '.join(names[:3])}."
    shown_once = dict.fromkeys(each for word in close for each in meant[word])
    return f"; did you mean {' or '.join(shown_once)}?"
