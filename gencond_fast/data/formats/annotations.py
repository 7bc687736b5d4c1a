"""Text files beside the images: labels of a flat validation folder, and readable class names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from gencond_fast.errors import InputError

Note = Callable[[str], str | None]
"""Returns the text of a file by its path below the root; None where there is no such file."""

# of Tiny-ImageNet, the Caffe tools and Kaggle
LABEL_FILES = ("val_annotations.txt", "ILSVRC2012_val.txt", "LOC_val_solution.csv")
TITLE_FILES = ("LOC_synset_mapping.txt", "classes.txt", "words.txt")

_OTHER_ORDER = "ILSVRC2012_validation_ground_truth.txt"
NOTES = (*LABEL_FILES, *TITLE_FILES, _OTHER_ORDER)


@dataclass(frozen=True)
class Labels:
    """The name and the text of a label file."""

    name: str
    text: str


def read_labels(note: Note, split: str, shown: str) -> Labels | None:
    """Looks for a label file in the folder of a split, then beside it.

    Args:
        note: returns texts by path.
        split: the name of the folder below the root.
        shown: the folder, for messages.

    Raises:
        InputError: the only label file numbers the classes in an order that is unknown here.
    """
    for path in (f"{folder}{name}" for folder in (f"{split}/", "") for name in LABEL_FILES):
        text = note(path)
        if text is not None:
            return Labels(path, text)
    if any(note(f"{folder}{_OTHER_ORDER}") is not None for folder in (f"{split}/", "")):
        raise InputError(
            f"{shown} is labelled by {_OTHER_ORDER}, whose numbers follow the development kit's "
            "order of classes and not that of the folders; give ILSVRC2012_val.txt or "
            "LOC_val_solution.csv instead, or sort the images into class folders."
        )
    return None


def label_files(
    files: Iterable[str], labels: Labels, class_names: tuple[str, ...], shown: str
) -> np.ndarray:
    """Finds the label of each file in the lines of a label file.

    A line holds the name of a file, with or without its extension, and the class of the image: its
    name, or its place among the sorted names, from 0. For example `n01443537_0.JPEG n01443537`.
    The rest of a line is ignored, and so are lines of files that do not exist.

    Args:
        files: names of the images, without folders.
        labels: the label file.
        class_names: sorted.
        shown: where the images are, for messages.

    Returns:
        int64 [number of files].

    Raises:
        InputError: an image has no line, or a class is neither a name nor a place.
    """
    stated = dict(_pairs(labels.text))
    number = _numbering(set(stated.values()), class_names, labels.name, shown)
    found = []
    for file in files:
        name = stated.get(PurePosixPath(file).stem)
        if name is None:
            raise InputError(
                f"{shown}: {labels.name} has no line for {file}; add it, or remove the image."
            )
        found.append(number[name])
    return np.array(found, dtype=np.int64)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """(file name without extension, class) of every line but the header of Kaggle's file."""
    for line in text.splitlines():
        if "\t" in line:
            file, kind = line.split("\t")[:2]
        elif "," in line:  # Kaggle's: the class, then boxes
            file, kind = line.split(",")[0], f"{line.split(',')[1]} ".split(" ")[0]
        else:
            file, _, kind = line.rpartition(" ")
        if file.strip() and kind.strip() and file != "ImageId":
            yield PurePosixPath(file.strip()).stem, kind.strip()


def _numbering(
    kinds: set[str], class_names: tuple[str, ...], name: str, shown: str
) -> dict[str, int]:
    by_name = {class_name: label for label, class_name in enumerate(class_names)}
    if kinds <= by_name.keys():
        return by_name
    strange = sorted(kinds - by_name.keys())
    if not all(re.fullmatch(r"\d{1,18}", kind) for kind in kinds):
        raise InputError(
            f"{shown}: {name} names the class {strange[0]!r}, of which there are no training "
            "images; add some, or remove its lines and its images."
        )
    highest = max(map(int, kinds))
    if highest >= len(class_names):
        raise InputError(
            f"{shown}: {name} numbers classes up to {highest}, but there are {len(class_names)} "
            "folders of training images, so which is which is not known; sort the images into "
            "class folders."
        )
    return {kind: int(kind) for kind in kinds}


def read_titles(note: Note, class_names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Readable names of the classes, only for display; None where no file has all of them.

    A line of `LOC_synset_mapping.txt`, `words.txt` or `classes.txt` holds a class and its title.
    `classes.txt` may instead hold the titles alone, in the order of the classes.
    """
    for file in TITLE_FILES:
        lines = [line.strip() for line in (note(file) or "").splitlines() if line.strip()]
        pairs = (line.split("\t" if "\t" in line else None, 1) for line in lines)
        known = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
        if known.keys() >= set(class_names):
            return tuple(known[name] for name in class_names)
        if file == "classes.txt" and len(lines) == len(class_names):
            return tuple(lines)
    return None
