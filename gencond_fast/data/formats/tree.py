"""Trees of class folders, on disk or in an archive: which file is an image of which class?"""

from __future__ import annotations

import hashlib
import os
from array import array
from dataclasses import dataclass

import numpy as np

from gencond_fast.data.formats.annotations import (
    LABEL_FILES,
    Note,
    label_files,
    read_labels,
    read_titles,
)
from gencond_fast.errors import InputError

VAL_NAMES = ("val", "validation", "test")
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm",
)  # fmt: skip

_HIDDEN = (".", "__MACOSX")


@dataclass(frozen=True, eq=False)
class Listing:
    """The N images of a tree in reading order. Memory: 12 bytes an image, and its file name.

    Attributes:
        folders: the path of every folder below the root as a tuple of names, also of empty ones.
        folder_of: int32 [N], the place of every image's folder in `folders`.
        text: uint8, the names of all files one after the other.
        ends: int64 [N], where every name ends in `text`.
    """

    folders: list[tuple[str, ...]]
    folder_of: np.ndarray
    text: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, index: int) -> bytes:
        """The file name of an image, in the bytes of the file system."""
        return self.text[self.ends[index - 1] if index else 0 : self.ends[index]].tobytes()

    def path(self, index: int) -> str:
        """The path of an image below the root."""
        folder = self.folders[self.folder_of[index]]
        return "/".join((*folder, os.fsdecode(self.name(index))))


class Lister:
    """Makes a `Listing`, image by image."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, ...], int] = {}
        self._folder_of = array("i")
        self._text = bytearray()
        self._ends = array("q")

    def add_folder(self, parts: tuple[str, ...]) -> int:
        """Adds a folder, if it is new, and returns its place."""
        return self._folders.setdefault(parts, len(self._folders))

    def add_image(self, folder: int, name: str) -> None:
        """Adds an image of the folder at place `folder`."""
        self._folder_of.append(folder)
        self._text += os.fsencode(name)
        self._ends.append(len(self._text))

    def listing(self) -> Listing:
        """The listing; nothing may be added after that."""
        return Listing(
            list(self._folders),
            np.frombuffer(self._folder_of, dtype=np.int32),
            np.frombuffer(self._text, dtype=np.uint8),
            np.frombuffer(self._ends, dtype=np.int64),
        )


@dataclass(frozen=True, eq=False)
class Layout:
    """The classes of a tree and the images of its splits.

    A split is a pair of int64 [n] arrays: ascending places in the listing, and labels.

    Attributes:
        class_names: names of the class folders, sorted.
        train: the training split.
        val: the validation split, or None.
        titles: readable names of the classes, where a file in the tree has them.
        annotations: the text of the label file, where validation labels come from one.
    """

    class_names: tuple[str, ...]
    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray] | None
    titles: tuple[str, ...] | None = None
    annotations: str | None = None


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out because of its name."""
    return name.startswith(_HIDDEN)


def is_image(name: str) -> bool:
    """Whether the name of a file is that of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name)


def arrange(listing: Listing, location: str, note: Note) -> Layout:
    """Finds splits and classes in a listing.

    A tree is `train/CLASS/…` with `val/CLASS/…` (or `validation`, `test`), or just `CLASS/…`, and
    may lie in one folder more. Deeper folders belong to their class. Images outside of every class
    folder are left out. Classes are numbered in the order of their sorted names. Where `val` has no
    class folders, its labels come from a file of `annotations.LABEL_FILES` in it or beside it.

    Args:
        listing: the images.
        location: the tree, for messages.
        note: returns the text of a file by its path below the root; None where there is no file.

    Raises:
        InputError: there are no images or no class folders, a class folder is empty, or a class
            is only in the validation split.
    """
    if not len(listing):
        raise InputError(
            f"{location} holds no images ({', '.join(IMAGE_SUFFIXES)}); put them in one folder "
            "per class."
        )
    folders, outer = _without_outer_folder(listing)
    tree = _Tree(listing, folders, outer, location, note)
    splits = {parts[0] for parts in folders if parts}
    nested = {parts[0] for parts in folders if len(parts) > 1}
    # A flat tree may well have a class called "train"; a split has folders of its own.
    if "train" not in nested and not (splits and splits <= {"train", *VAL_NAMES}):
        names, rows, labels = tree.classes()
        return Layout(names, (rows, labels), None, read_titles(tree.note, names))
    if "train" not in splits:
        raise InputError(
            f"{location} has {min(splits)}/ but no train/; add the training images or give that "
            "folder itself as the data."
        )
    names, rows, labels = tree.classes("train")
    titles = read_titles(tree.note, names)
    chosen = next((name for name in VAL_NAMES if name in splits), None)
    if chosen is None:
        return Layout(names, (rows, labels), None, titles)
    val, annotations = tree.validation(chosen, names)
    return Layout(names, (rows, labels), val, titles, annotations)


def digest_of(digest: str, layout: Layout) -> str:
    """The digest of the images, and of the text that labels some of them where there is one."""
    if layout.annotations is None:
        return digest
    return hashlib.sha256(f"{digest} {layout.annotations}".encode()).hexdigest()


def _without_outer_folder(listing: Listing) -> tuple[list[tuple[str, ...]], str]:
    """The folders, less a single one around all images that is neither a split nor a class.

    That folder's name comes second, empty if there is none.
    """
    used = [listing.folders[place] for place in np.unique(listing.folder_of)]
    outer = {parts[:1] for parts in used}
    if len(outer) > 1 or any(len(parts) < 2 for parts in used):
        return listing.folders, ""
    ((name,),) = outer
    if name in ("train", *VAL_NAMES):
        return listing.folders, ""
    return [parts[1:] if parts[:1] == (name,) else () for parts in listing.folders], name


@dataclass(frozen=True, eq=False)
class _Tree:
    """A listing whose folders are seen from inside the folder around it all."""

    listing: Listing
    folders: list[tuple[str, ...]]
    outer: str
    location: str
    read: Note

    def note(self, path: str) -> str | None:
        """The text of a file, looked for inside the outer folder first."""
        found = self.read(f"{self.outer}/{path}") if self.outer else None
        return self.read(path) if found is None else found

    def validation(
        self, split: str, names: tuple[str, ...]
    ) -> tuple[tuple[np.ndarray, np.ndarray], str | None]:
        """The images of a validation split, and the text their labels came from if they did."""
        below = {parts[1] for parts in self.folders if len(parts) > 1 and parts[0] == split}
        unknown = sorted(below - set(names))
        shown = f"{self.location}/{split}"
        if unknown or not below:
            text = read_labels(self.note, split, shown)
            if text is not None:
                rows = self._below((split,))[0]
                files = (os.fsdecode(self.listing.name(row)) for row in rows)
                return (rows, label_files(files, text, names, shown)), text.text
        if unknown:
            raise InputError(
                f"{self.location} has the class {unknown[0]!r} in {split}/ but not in train/; add "
                "training images of it or remove it."
            )
        if not below:
            raise InputError(
                f"{shown} has no class folders and no file that labels its images; put them in "
                f"one folder per class, or add one of {', '.join(LABEL_FILES)}."
            )
        val_names, rows, labels = self.classes(split)
        places = np.array([names.index(name) for name in val_names], dtype=np.int64)
        return (rows, places[labels]), None

    def classes(self, *above: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Class names, places of images and labels below the folder `above`."""
        depth = len(above)
        class_of = {
            place: parts[depth]
            for place, parts in enumerate(self.folders)
            if parts[:depth] == above and len(parts) > depth
        }
        names = sorted(set(class_of.values()))
        shown = "/".join((self.location, *above))
        if not names:
            raise InputError(
                f"{shown} has no class folders; put its images in one folder per class."
            )
        number = {name: label for label, name in enumerate(names)}
        rows, labels = self._below(above, {place: number[name] for place, name in class_of.items()})
        counts = np.bincount(labels, minlength=len(names))
        if not counts.all():
            empty = names[int(np.argmin(counts))]
            raise InputError(
                f"The class folder {shown}/{empty} holds no images; add some or remove the folder."
            )
        return tuple(names), rows, labels

    def _below(
        self, above: tuple[str, ...], label_of: dict[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places and labels of the images in the labelled folders, else in all below `above`."""
        if label_of is None:
            inside = (i for i, parts in enumerate(self.folders) if parts[: len(above)] == above)
            label_of = dict.fromkeys(inside, 0)
        label_of_folder = np.full(len(self.folders), -1, dtype=np.int64)
        for place, label in label_of.items():
            label_of_folder[place] = label
        labels = label_of_folder[self.listing.folder_of]
        rows = np.flatnonzero(labels >= 0)
        return rows, labels[rows]
