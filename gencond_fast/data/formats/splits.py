"""Which folder or file is of which split, by its name: the keywords of the Hugging Face hub.

A keyword counts in any case and between any separators: `Train`, `seg_test`, `val2017`, `trainSet`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gencond_fast.errors import InputError

TRAIN, VAL, TEST = "train", "val", "test"
_KEYWORDS = {
    "train": TRAIN, "training": TRAIN,
    "val": VAL, "valid": VAL, "validation": VAL, "dev": VAL, "development": VAL,
    "test": TEST, "testing": TEST, "eval": TEST, "evaluation": TEST,
}  # fmt: skip
_FILLERS = {"set", "split", "data", "dataset", "image", "images", "img", "imgs"}


def words_of(name: str) -> list[str]:
    """The words of a name in lower case; digits and other characters separate them."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def kind_within(name: str) -> str | None:
    """The split that a word of the name stands for; None without one, or with words of several."""
    kinds = {_KEYWORDS[word] for word in words_of(name) if word in _KEYWORDS}
    return kinds.pop() if len(kinds) == 1 else None


def kind_of(name: str) -> str | None:
    """The split that the whole name stands for, as `Training`, `test_images` or `val2017` do."""
    rest = [word for word in words_of(name) if word not in _FILLERS]
    return _KEYWORDS.get(rest[0]) if len(rest) == 1 else None


def order_of(name: str) -> tuple[bool, str]:
    """A key that sorts the splits to test on: validation goes before test."""
    return kind_within(name) != VAL, name


def choose_test(names: Iterable[str], wanted: str | None) -> str | None:
    """The split to test on: the one wanted, by its name or its kind, else the first.

    Args:
        names: of the splits there are, the preferred one first.
        wanted: the name that the user gave, or None.

    Returns:
        One of `names`, or None where there is none of that name.
    """
    known = list(names)
    if wanted is None:
        return known[0] if known else None
    if wanted in known:
        return wanted
    same = [name for name in known if name.lower() == wanted.lower()]
    kind = kind_of(wanted)
    same = same or [name for name in known if kind is not None and kind_within(name) == kind]
    return same[0] if len(same) == 1 else None


@dataclass(frozen=True)
class Splits:
    """Names of folders or files by what they hold.

    Attributes:
        train: of the training split.
        tests: of the splits to test on, validation first.
    """

    train: tuple[str, ...]
    tests: tuple[str, ...]


def split_folders(nested: Iterable[str], flat: Iterable[str], location: str) -> Splits | None:
    """Sorts the folders of a tree into splits; None where they are classes.

    A tree of classes may well have a class `train` or `test_tube`. A training split has folders of
    its own, and a name with further words counts only beside a like one, as `seg_train` and
    `seg_test` do.

    Args:
        nested: names of the folders that have folders with images.
        flat: names of the others.
        location: the tree, for messages.

    Raises:
        InputError: there are splits to test on and no training split.
    """
    nested, names = set(nested), {*nested, *flat}
    whole = {name: kind for name in names if (kind := kind_of(name))}
    if not any(whole.get(name) == TRAIN for name in nested) and not (names and names <= set(whole)):
        whole = _alike(nested)
    if not whole:
        return None
    train = tuple(sorted(name for name, kind in whole.items() if kind == TRAIN))
    if not train:
        raise InputError(
            f"{location} has {min(names)}/ but no train/; add the training images or give that "
            "folder itself as the data."
        )
    partial = {name for name in names - set(whole) if kind_within(name) in (VAL, TEST)}
    kinds = set(whole.values())
    partial = {name for name in partial if kind_within(name) not in kinds}
    tests = {name for name, kind in whole.items() if kind != TRAIN} | partial
    return Splits(train, tuple(sorted(tests, key=order_of)))


def _alike(nested: set[str]) -> dict[str, str]:
    """Folders whose names differ in the keyword alone, a training split among them."""
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for name in nested:
        kind = kind_within(name)
        if kind is not None:
            rest = tuple(word for word in words_of(name) if word not in _KEYWORDS)
            groups.setdefault(rest, {})[name] = kind
    found = [group for group in groups.values() if {TRAIN} < set(group.values())]
    return found[0] if len(found) == 1 else {}


def split_files(stems: Mapping[str, str]) -> Splits | None:
    """Sorts files into splits; None where no name has a keyword, so that all are for training.

    Args:
        stems: the part of each file's name that says its split, by the name of the file.
    """
    kinds = {file: kind_within(stem) for file, stem in stems.items()}
    if not any(kinds.values()):
        return None
    train = tuple(file for file, kind in kinds.items() if kind == TRAIN)
    return Splits(train, tuple(file for file, kind in kinds.items() if kind in (VAL, TEST)))
