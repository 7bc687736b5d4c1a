"""Trees of class folders, on disk or in an archive: which file is an image of which class?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from gencond_fast.data.formats.ambiguity import like_splits, refuse_hidden_splits
from gencond_fast.data.formats.annotations import (
    LABEL_FILES,
    Note,
    label_files,
    read_labels,
    read_titles,
)
from gencond_fast.data.formats.names import IMAGE_SUFFIXES
from gencond_fast.data.formats.splits import kind_of, kind_within, split_folders
from gencond_fast.data.formats.tree import Listing
from gencond_fast.data.text import clean_name
from gencond_fast.errors import InputError
from gencond_fast.system.words import counted

Rows = tuple[np.ndarray, np.ndarray]
"""The images of a split: int64 [n] ascending places in the listing, and int64 [n] labels."""

_WRAPPERS = ("images", "image", "imgs", "img", "data")


@dataclass(frozen=True, eq=False)
class Layout:
    """The classes of a tree and the images of its splits.

    Attributes:
        class_names: names of the class folders, sorted.
        train: the training split.
        tests: the splits to test on by the names of their folders, validation first.
        unusable: the splits that cannot be tested on, and why.
        titles: readable names of the classes, where a file in the tree has them.
        annotations: the texts of the label files, where labels come from some.
        notes: a line each about what is left out.
    """

    class_names: tuple[str, ...]
    train: Rows
    tests: dict[str, Rows] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    titles: tuple[str, ...] | None = None
    annotations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Unlabelled(Exception):
    """A split has no labels; the text says why."""


def arrange(listing: Listing, location: str, note: Note) -> Layout:
    """Finds splits and classes in a listing.

    A tree is `train/CLASS/…` with `val/CLASS/…`, `test/CLASS/…` or both, or just `CLASS/…`; see
    `splits` for the names of splits. It may lie in further folders, and so may each split. Deeper
    folders belong to their class. Classes are numbered in the order of their sorted names. Where a
    split has no class folders, its labels come from a file of `annotations.LABEL_FILES` in it or
    beside it. A split without labels is left out.

    Args:
        listing: the images.
        location: the tree, for messages.
        note: returns the text of a file by its path below the root; None where there is no file.

    Raises:
        InputError: there are no images or no class folders, a class folder is empty, a class is
            only in a split to test on, or what is a class and what a split is not clear.
    """
    if not len(listing):
        raise InputError(
            f"{location} holds no images ({', '.join(IMAGE_SUFFIXES[:6])} …); put them in one "
            "folder per class."
        )
    folders, outer = _without_outer_folders(listing)
    tree = _Tree(listing, folders, outer, location, note)
    tops = {parts[0] for parts in folders if parts}
    nested = {parts[0] for parts in folders if len(parts) > 1}
    splits = split_folders(nested, tops - nested, location)
    if splits is None:
        names, rows, labels = tree.classes([()])
        titles = read_titles(tree.note, names)
        told = (*like_splits(names), *tree.left_out([rows]))
        return Layout(names, (rows, labels), titles=titles, notes=told)
    names, rows, labels = tree.classes([tree.inside((name,)) for name in splits.train])
    tests: dict[str, Rows] = {}
    unusable, texts = {}, []
    for split in splits.tests:
        try:
            tests[split], text = tree.test(split, names)
        except _Unlabelled as error:
            unusable[split] = str(error)
        else:
            texts += [] if text is None else [text]
    used = [rows, *(places for places, _ in tests.values())]
    notes = [f"left out: {reason}" for reason in unusable.values()]
    if len(splits.train) > 1:
        notes.append(f"read as one training split: {', '.join(splits.train)}")
    return Layout(
        names,
        (rows, labels),
        tests,
        unusable,
        read_titles(tree.note, names),
        tuple(texts),
        (*notes, *tree.left_out(used, unusable)),
    )


def digest_of(digest: str, layout: Layout) -> str:
    """The digest of the images, and of the texts that label some of them where there are any."""
    for text in layout.annotations:
        digest = hashlib.sha256(f"{digest} {text}".encode()).hexdigest()
    return digest


def _without_outer_folders(listing: Listing) -> tuple[list[tuple[str, ...]], str]:
    """The folders, less single ones around all images that are neither a split nor a class.

    The path of those folders comes second, empty if there are none.
    """
    folders, outer = list(listing.folders), ""
    places = np.unique(listing.folder_of).tolist()
    while True:
        used = [folders[place] for place in places]
        around = {parts[:1] for parts in used}
        if len(around) > 1 or any(len(parts) < 2 for parts in used):
            return folders, outer
        ((name,),) = around
        if kind_of(name) is not None:
            return folders, outer
        folders = [parts[1:] if parts[:1] == (name,) else () for parts in folders]
        outer = f"{outer}/{name}" if outer else name


@dataclass(frozen=True, eq=False)
class _Tree:
    """A listing whose folders are seen from inside the folders around it all."""

    listing: Listing
    folders: list[tuple[str, ...]]
    outer: str
    location: str
    read: Note

    def note(self, path: str) -> str | None:
        """The text of a file, looked for inside the outer folders first."""
        found = self.read(f"{self.outer}/{path}") if self.outer else None
        return self.read(path) if found is None else found

    def inside(self, above: tuple[str, ...]) -> tuple[str, ...]:
        """The folder of a split without a single one within it, as in `seg_train/seg_train`."""
        depth = len(above)
        used = {self.folders[place] for place in np.unique(self.listing.folder_of).tolist()}
        below = {parts[depth:] for parts in used if parts[:depth] == above}
        within = {parts[:1] for parts in below}
        if len(within) != 1 or any(len(parts) < 2 for parts in below):
            return above
        ((name,),) = within
        wrapper = name.lower() in _WRAPPERS or kind_within(name) == kind_within(above[0])
        return self.inside((*above, name)) if wrapper else above

    def test(self, split: str, names: tuple[str, ...]) -> tuple[Rows, str | None]:
        """The images of a split to test on, and the text their labels came from if they did.

        Raises:
            _Unlabelled: it has no labels.
            InputError: it has a class of which there are no training images.
        """
        above = self.inside((split,))
        below = {
            clean_name(parts[len(above)])
            for parts in self.folders
            if len(parts) > len(above) and parts[: len(above)] == above
        }
        unknown = sorted(below - set(names))
        shown = f"{self.location}/{split}"
        if unknown or not below:
            text = read_labels(self.note, split, shown)
            if text is not None:
                rows = self._below({(split,): 0})[0]
                files = [self.listing.path(row) for row in rows.tolist()]
                return (rows, label_files(files, text, names, shown)), text.text
        if not below or (len(below) == 1 and unknown):
            count = counted(len(self._below({(split,): 0})[0]), "image")
            raise _Unlabelled(
                f"{count} in {shown}, which has no class folders and no file that labels its "
                f"images; for a test, put them in one folder per class, or add one of "
                f"{', '.join(LABEL_FILES)}"
            )
        if unknown:
            raise InputError(
                f"{self.location} has the class {unknown[0]!r} in {split}/ but not in train/; add "
                "training images of it or remove it."
            )
        val_names, rows, labels = self.classes([above])
        places = np.array([names.index(name) for name in val_names], dtype=np.int64)
        return (rows, places[labels]), None

    def classes(
        self, above: list[tuple[str, ...]]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Class names, places of images and labels below the folders `above`."""
        folder_of_class: dict[str, tuple[str, ...]] = {}
        for folder in above:
            self._add_classes(folder, folder_of_class)
        shown = "/".join((self.location, *above[0]))
        if not folder_of_class:
            raise InputError(
                f"{shown} has no class folders; put its images in one folder per class."
            )
        names = sorted(folder_of_class)
        refuse_hidden_splits(self.folders, folder_of_class, self.location)
        rows, labels = self._below({folder_of_class[name]: k for k, name in enumerate(names)})
        counts = np.bincount(labels, minlength=len(names))
        if not counts.all():
            empty = "/".join((self.location, *folder_of_class[names[int(np.argmin(counts))]]))
            raise InputError(
                f"The class folder {empty} holds no images; add some or remove the folder."
            )
        return tuple(names), rows, labels

    def _add_classes(self, above: tuple[str, ...], found: dict[str, tuple[str, ...]]) -> None:
        depth = len(above)
        inside = {
            parts[: depth + 1]
            for parts in self.folders
            if parts[:depth] == above and len(parts) > depth
        }
        for folder in sorted(inside):
            other = found.setdefault(clean_name(folder[-1]), folder)
            if other != folder:
                paths = " and ".join(
                    repr("/".join((self.location, *each))) for each in (other, folder)
                )
                raise InputError(
                    f"{paths} are two folders of one class; put their images into one folder, or "
                    "rename one."
                )

    def left_out(self, used: Iterable[np.ndarray], told: Iterable[str] = ()) -> tuple[str, ...]:
        """A line about images that are in no split, but those in the folders `told`."""
        missed = np.ones(len(self.listing), dtype=bool)
        for rows in (*used, *(self._below({(name,): 0})[0] for name in told)):
            missed[rows] = False
        if not missed.any():
            return ()
        first = self.listing.path(int(np.argmax(missed)))
        return (
            f"left out: {counted(int(missed.sum()), 'image')} outside of all class folders, such "
            f"as {first}",
        )

    def _below(self, label_of: dict[tuple[str, ...], int]) -> Rows:
        """Places and labels of the images in some folders and below them."""
        depths = sorted({len(folder) for folder in label_of})
        label_of_folder = np.full(len(self.folders), -1, dtype=np.int64)
        for place, parts in enumerate(self.folders):
            for depth in depths:
                if parts[:depth] in label_of and len(parts) >= depth:
                    label_of_folder[place] = label_of[parts[:depth]]
        labels = label_of_folder[self.listing.folder_of]
        rows = np.flatnonzero(labels >= 0)
        return rows, labels[rows]
