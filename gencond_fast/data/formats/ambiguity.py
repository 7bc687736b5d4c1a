"""Trees in which it is not clear what is a class and what a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from gencond_fast.data.formats.splits import TRAIN, kind_of
from gencond_fast.errors import InputError

Folder = tuple[str, ...]

_COMPARED = 20  # classes that have a folder of one name


def like_splits(names: Iterable[str]) -> tuple[str, ...]:
    """A line about classes that are called as splits are, or none."""
    found = [name for name in names if kind_of(name) is not None]
    if not found:
        return ()
    verb = "is read as a class" if len(found) == 1 else "are read as classes"
    return (f"{', '.join(found)} {verb}; if it is a split, put the training images into train/",)


def refuse_hidden_splits(
    folders: Iterable[Folder], folder_of_class: Mapping[str, Folder], location: str
) -> None:
    """Refuses classes that hold folders of the same names, for those may be the classes.

    One name may be shared, as `images` is in Tiny-ImageNet.

    Args:
        folders: of the whole tree.
        folder_of_class: the folder of each class by its name.
        location: the tree, for messages.

    Raises:
        InputError: two classes share two folders, or one holds folders of several splits.
    """
    owners = _owners(folders, folder_of_class)
    both = _holder_of_splits(owners)
    if both is not None:
        raise InputError(
            f"{location} has folders of splits inside {both}/; put each split around its classes, "
            f"as train/{both}/ and test/{both}/."
        )
    shared: dict[tuple[str, str], str] = {}
    for inner, classes in sorted(owners.items()):
        for pair in combinations(sorted(classes)[:_COMPARED], 2):
            if pair in shared:
                raise InputError(
                    f"{location} has folders {shared[pair]}/ and {inner}/ both in {pair[0]}/ and "
                    f"in {pair[1]}/, so which are the classes is not clear; name splits train, val "
                    "or test, or put the images of a class into one folder."
                )
            shared[pair] = inner


def _owners(
    folders: Iterable[Folder], folder_of_class: Mapping[str, Folder]
) -> dict[str, set[str]]:
    """The classes that hold a folder of each name."""
    owners: dict[str, set[str]] = {}
    depths = {len(folder) for folder in folder_of_class.values()}
    class_of = {folder: name for name, folder in folder_of_class.items()}
    for parts in folders:
        for depth in depths:
            if len(parts) > depth and parts[:depth] in class_of:
                owners.setdefault(parts[depth], set()).add(class_of[parts[:depth]])
    return owners


def _holder_of_splits(owners: Mapping[str, set[str]]) -> str | None:
    """A class that holds a folder for training and one for tests; None without one."""
    train: set[str] = set()
    tests: set[str] = set()
    for inner, classes in owners.items():
        kind = kind_of(inner)
        if kind is not None:
            (train if kind == TRAIN else tests).update(classes)
    return min(train & tests, default=None)
