"""Text files beside the images: labels of a flat validation folder, and readable class names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

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
    files: Sequence[str], labels: Labels, class_names: tuple[str, ...], shown: str
) -> np.ndarray:
    """Finds the label of each file in the lines of a label file.

    A line holds a file, with or without its folders and its extension, and the class of the image:
    its name, or its place among the sorted names, from 0. For example `n01443537_0.JPEG n01443537`.
    The rest of a line is ignored, and so are lines of files that do not exist.

    Args:
        files: paths of the images below the root, with `/`.
        labels: the label file.
        class_names: sorted.
        shown: where the images are, for messages.

    Returns:
        int64 [number of files].

    Raises:
        InputError: an image has no line, or several that contradict each other, a line could mean
            several images, or a class is neither a name nor a place.
    """
    stated: dict[str, set[str]] = {}
    for file, kind in _pairs(labels.text):
        for form in {file, PurePosixPath(file).name, PurePosixPath(file).stem}:
            stated.setdefault(form, set()).add(kind)
    kinds = [_kind_of(file, stated, labels.name, shown) for file in _forms(files)]
    every = {kind for found in stated.values() for kind in found}
    number = _numbering(set(kinds), every, class_names, labels.name, shown)
    return np.array([number[kind] for kind in kinds], dtype=np.int64)


def _forms(files: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """How a line may call each file: by ever shorter paths, then by a stem that nobody shares."""
    paths = [PurePosixPath(unicodedata.normalize("NFC", file)) for file in files]
    shared = Counter(name for path in paths for name in {path.name, path.stem})
    for path in paths:
        parts = path.parts
        longer = tuple("/".join(parts[start:]) for start in range(len(parts) - 1))
        yield (*longer, *(form for form in (path.name, path.stem) if shared[form] == 1), str(path))


def _kind_of(forms: tuple[str, ...], stated: Mapping[str, set[str]], name: str, shown: str) -> str:
    *usable, file = forms
    kinds = next((stated[form] for form in usable if form in stated), None)
    last = PurePosixPath(file).name
    if kinds is None:
        stem = PurePosixPath(file).stem
        if last in stated or stem in stated:
            raise InputError(
                f"{shown}: a line of {name} for {last} could mean several images; give their paths "
                "or extensions in it."
            )
        raise InputError(f"{shown}: {name} has no line for {last}; add it, or remove the image.")
    if len(kinds) > 1:
        raise InputError(
            f"{shown}: {name} says {' and '.join(sorted(kinds)[:2])} of {last}; keep one line."
        )
    return next(iter(kinds))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """(file, class) of every line but the header of Kaggle's file."""
    for line in text.splitlines():
        if "\t" in line:
            file, kind = line.split("\t")[:2]
        elif "," in line:  # Kaggle's: the class, then boxes
            file, kind = line.split(",")[0], f"{line.split(',')[1]} ".split(" ")[0]
        else:
            file, _, kind = line.rpartition(" ")
        if file.strip() and kind.strip() and file != "ImageId":
            yield file.strip().removeprefix("./"), kind.strip()


def _numbering(
    kinds: set[str], every: set[str], class_names: tuple[str, ...], name: str, shown: str
) -> dict[str, int]:
    """The label of each class, by its name or by its place.

    Args:
        kinds: the classes of the images that are there.
        every: the classes of all lines.
        class_names: sorted.
        name: of the label file.
        shown: where the images are, for messages.
    """
    by_name = {class_name: label for label, class_name in enumerate(class_names)}
    if kinds <= by_name.keys():
        return by_name
    strange = sorted(kinds - by_name.keys())
    if not all(_is_number(kind) for kind in kinds) or any(map(_is_number, class_names)):
        raise InputError(
            f"{shown}: {name} names the class {strange[0]!r}, of which there are no training "
            "images; add some, or remove its lines and its images."
        )
    numbers = {int(kind) for kind in every if _is_number(kind)}
    advice = "so which is which is not known; sort the images into class folders."
    if max(numbers) >= len(class_names):
        raise InputError(
            f"{shown}: {name} numbers classes up to {max(numbers)}, but there are "
            f"{len(class_names)} folders of training images, {advice}"
        )
    if 0 not in numbers:
        raise InputError(
            f"{shown}: {name} numbers classes from {min(numbers)}, perhaps up from 1, {advice}"
        )
    for order in (_natural, str.lower):
        if sorted(class_names, key=order) != list(class_names):
            raise InputError(
                f"{shown}: {name} numbers the classes, and the folders of training images, such as "
                f"{_first_moved(class_names, order)}, have several orders, {advice}"
            )
    return {kind: int(kind) for kind in kinds}


def _is_number(kind: str) -> bool:
    return re.fullmatch(r"[0-9]{1,18}", kind) is not None


def _natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts `class10` behind `class9`."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _first_moved(names: Sequence[str], order: Callable[[str], Any]) -> str:
    pairs = zip(names, sorted(names, key=order), strict=True)
    return " and ".join(next(pair for pair in pairs if pair[0] != pair[1]))


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
