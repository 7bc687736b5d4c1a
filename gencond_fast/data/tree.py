"""Trees of class folders, on disk or in an archive: which file is an image of which class."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass

import numpy as np

from gencond_fast.errors import InputError

VAL_NAMES = ("val", "validation", "test")
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm",
)  # fmt: skip

_HIDDEN = (".", "__MACOSX")


class Names:
    """A list of strings in one block of bytes: what each costs is its length and 8 bytes."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, name: str) -> None:
        """Adds a string at the end."""
        self._text += os.fsencode(name)
        self._ends.append(len(self._text))

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._text[start : self._ends[index]]))


class Listing:
    """Every image of a tree in reading order: 12 bytes and its name each.

    Attributes:
        folders: path of every folder below the root, as parts; empty ones as well.
        folder_of: for every image, its folder's place in `folders`.
        names: for every image, its file name.
    """

    def __init__(self) -> None:
        self.folders: list[tuple[str, ...]] = []
        self.folder_of = array("i")
        self.names = Names()
        self._known: dict[tuple[str, ...], int] = {}

    def add_folder(self, parts: tuple[str, ...]) -> int:
        """Notes a folder and returns its place in `folders`."""
        place = self._known.setdefault(parts, len(self.folders))
        if place == len(self.folders):
            self.folders.append(parts)
        return place

    def add_image(self, folder: int, name: str) -> None:
        """Notes an image of the folder at that place."""
        self.folder_of.append(folder)
        self.names.append(name)

    def path(self, index: int) -> str:
        """The path of an image below the root."""
        return "/".join((*self.folders[self.folder_of[index]], self.names[index]))


@dataclass(frozen=True, eq=False)
class Layout:
    """The images of each split: ascending places in the listing int64 [n], and labels int64 [n]."""

    class_names: tuple[str, ...]
    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray] | None


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out for its name."""
    return name.startswith(_HIDDEN)


def is_image(name: str) -> bool:
    """Whether a file counts as an image by its name."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name)


def arrange(listing: Listing, location: str) -> Layout:
    """Finds splits and classes in a listing.

    Either `train/CLASS/…` with `val/CLASS/…` (or `validation`, `test`), or `CLASS/…` alone; one
    folder may stand around it all. Deeper folders belong to their class, and images outside every
    class folder are left out. Classes are numbered in the order of their sorted names.

    Raises:
        InputError: there are no images or no class folders, a class folder is empty, or a class
            is only in the validation split.
    """
    if not len(listing.names):
        raise InputError(
            f"{location} holds no images ({', '.join(IMAGE_SUFFIXES)}); put them in one folder "
            "per class."
        )
    folders = _without_outer_folder(listing)
    splits = {parts[0] for parts in folders if parts}
    nested = {parts[0] for parts in folders if len(parts) > 1}
    # A flat tree may well have a class called "train"; a split has folders of its own.
    if "train" not in nested and not (splits and splits <= {"train", *VAL_NAMES}):
        names, rows, labels = _classes(listing, folders, (), location)
        return Layout(names, (rows, labels), None)
    if "train" not in splits:
        raise InputError(
            f"{location} has {min(splits)}/ but no train/; add the training images or give that "
            "folder itself as the data."
        )
    names, rows, labels = _classes(listing, folders, ("train",), location)
    chosen = next((name for name in VAL_NAMES if name in splits), None)
    if chosen is None:
        return Layout(names, (rows, labels), None)
    val_names, val_rows, val_labels = _classes(listing, folders, (chosen,), location)
    unknown = sorted(set(val_names) - set(names))
    if unknown:
        raise InputError(
            f"{location} has the class {unknown[0]!r} in {chosen}/ but not in train/; add "
            "training images of it or remove it."
        )
    places = np.array([names.index(name) for name in val_names], dtype=np.int64)
    return Layout(names, (rows, labels), (val_rows, places[val_labels]))


def _without_outer_folder(listing: Listing) -> list[tuple[str, ...]]:
    """The folders, less a single one around all images that is neither a split nor a class."""
    used = [listing.folders[place] for place in sorted(set(listing.folder_of))]
    outer = {parts[:1] for parts in used}
    if len(outer) > 1 or any(len(parts) < 2 for parts in used):
        return listing.folders
    (name,) = outer.pop()
    if name in ("train", *VAL_NAMES):
        return listing.folders
    return [parts[1:] if parts[:1] == (name,) else () for parts in listing.folders]


def _classes(
    listing: Listing, folders: list[tuple[str, ...]], above: tuple[str, ...], location: str
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Class names, places of images and labels below the folder `above`."""
    depth = len(above)
    class_of = {
        place: parts[depth]
        for place, parts in enumerate(folders)
        if parts[:depth] == above and len(parts) > depth
    }
    names = sorted(set(class_of.values()))
    shown = "/".join((location, *above))
    if not names:
        raise InputError(f"{shown} has no class folders; put its images in one folder per class.")
    number = {name: label for label, name in enumerate(names)}
    label_of_folder = np.full(len(folders), -1, dtype=np.int64)
    for place, name in class_of.items():
        label_of_folder[place] = number[name]
    labels = label_of_folder[np.frombuffer(listing.folder_of, dtype=np.int32)]
    rows = np.flatnonzero(labels >= 0)
    labels = labels[rows]
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        empty = names[int(np.argmin(counts))]
        raise InputError(
            f"The class folder {shown}/{empty} holds no images; add some or remove the folder."
        )
    return tuple(names), rows, labels
