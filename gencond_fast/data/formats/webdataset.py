"""Shards of a WebDataset: archives in which `000.png` and its label `000.cls` share a name."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from gencond_fast.data.contract import Block, Load, Opened, Split
from gencond_fast.data.formats.assembling import assemble
from gencond_fast.data.formats.columns import Coded, merge_codes
from gencond_fast.data.formats.tar_index import Archive, contents, open_archive, stem_of
from gencond_fast.data.text import clean_name, decode_text
from gencond_fast.errors import InputError
from gencond_fast.system.words import counted

_IN_JSON = ("label", "cls", "class", "class_id", "target")
_LONGEST_NAME = 200
_LOOKED_AT = 16  # images of an archive, for a label beside one of them


class ShardSplit(Split):
    """Images in several archives, in their order. Memory: 20 bytes an image, and the listings."""

    def __init__(self, shards: Sequence[Archive], labels: np.ndarray) -> None:
        self._shards = shards
        self._firsts = np.cumsum([0, *(len(shard.sizes) for shard in shards)])
        self.labels = labels

    def read(self, indices: np.ndarray, block: int) -> Generator[Block, None, None]:
        """See `Split.read`."""
        with ExitStack() as stack:
            opened: dict[int, int] = {}
            for start in range(0, len(indices), block):
                rows = indices[start : start + block]
                loads: list[Load] = []
                for number, row in zip(self._shard_of(rows).tolist(), rows.tolist(), strict=True):
                    shard = self._shards[number]
                    if number not in opened:
                        file = stack.enter_context(open_archive(shard.path))
                        opened[number] = file.fileno()
                    place = row - int(self._firsts[number])
                    size, at = int(shard.sizes[place]), int(shard.offsets[place])
                    loads.append(partial(contents, opened[number], size, at))
                yield loads

    def where(self, index: int) -> str:
        """See `Split.where`."""
        shard, place = self._place(index)
        return f"{shard.listing.path(place)} in {shard.path}"

    def file_name(self, index: int) -> str:
        """See `Split.file_name`."""
        shard, place = self._place(index)
        return os.fsdecode(shard.listing.name(place))

    def _shard_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._firsts, rows, side="right") - 1

    def _place(self, index: int) -> tuple[Archive, int]:
        number = int(self._shard_of(np.array([index]))[0])
        return self._shards[number], index - int(self._firsts[number])


def is_webdataset(archive: Archive) -> bool:
    """Whether the images of an archive have labels of their own name beside them."""
    rows = range(min(_LOOKED_AT, len(archive.listing)))  # a label of the first may be missing
    return bool(archive.texts) and any(
        f"{stem_of(archive.listing.path(row))}{suffix}" in archive.texts
        for row in rows
        for suffix in (".cls", ".cls.txt", ".json")
    )


def open_webdataset(
    train: Sequence[Archive],
    tests: Mapping[str, Sequence[Archive]],
    root: Path,
    notes: Sequence[str],
) -> Opened:
    """Opens the shards of a training split and of splits to test on.

    The label is a number or a name in `KEY.cls`, or one of the fields `label`, `cls`, `class`,
    `class_id` and `target` of `KEY.json`. Numbers are called as `KEY.txt` says, if that says one
    name for each number, as what this program exports does.

    Args:
        train: shards in order, at least one.
        tests: shards of each split to test on by name.
        root: the folder that file names in the fingerprint are relative to.
        notes: lines about what is left out.

    Raises:
        InputError: a training image has no label, or two images one name.
    """
    every = [*train, *(shard for shards in tests.values() for shard in shards)]
    needed = [True] * len(train) + [False] * (len(every) - len(train))
    told = [*notes, *(note for shard in every for note in shard.notes)]
    coded = [_labels(shard, must) for shard, must in zip(every, needed, strict=True)]
    codes, names = merge_codes([(s.path, c) for s, (c, _) in zip(every, coded, strict=True)])
    if names is None:
        names = _names([captions for _, captions in coded])
    merged = iter(codes)
    splits = [
        (np.concatenate([next(merged) for _ in shards]), partial(ShardSplit, _bare(shards)))
        for shards in (train, *tests.values())
    ]
    return assemble(
        splits[0],
        dict(zip(tests, splits[1:], strict=True)),
        names,
        location=str(every[0].path if len(every) == 1 else root),
        files=[shard.path for shard in every],
        root=root,
        notes=told,
    )


def _bare(shards: Sequence[Archive]) -> list[Archive]:
    """Shards without the places of their labels, which have been read."""
    return [replace(shard, texts={}) for shard in shards]


def _labels(shard: Archive, needed: bool) -> tuple[Coded, dict[int, set[str]]]:
    """The labels of a shard, and what the texts beside them say of each number."""
    found: list[str | None] = []
    captions: dict[int, set[str]] = {}
    seen: set[str] = set()
    with open_archive(shard.path) as file:
        for row in range(len(shard.sizes)):
            path = shard.listing.path(row)
            stem = stem_of(path)
            if stem in seen:
                raise InputError(
                    f"{path} in {shard.path} is the second image of its sample; keep one a sample."
                )
            seen.add(stem)
            texts = {
                suffix: decode_text(contents(file.fileno(), *shard.texts[f"{stem}{suffix}"]))
                for suffix in (".cls", ".cls.txt", ".json", ".txt")
                if f"{stem}{suffix}" in shard.texts
            }
            label = _label(texts)
            if label is None and needed:
                raise InputError(
                    f"{path} in {shard.path} has no label; add {stem}.cls with the number or the "
                    "name of its class, or leave it out."
                )
            found.append(label)
            if label is not None and label.isdigit() and ".txt" in texts:
                captions.setdefault(int(label), set()).add(texts[".txt"].strip())
    if all(label is None or _is_number(label) for label in found):
        codes = np.array([-1 if label is None else int(label) for label in found], dtype=np.int64)
        return Coded(codes, None, False), captions
    names = tuple(sorted({label for label in found if label is not None}))
    number = {name: k for k, name in enumerate(names)}
    codes = np.array([-1 if label is None else number[label] for label in found], dtype=np.int64)
    return Coded(codes, names, False), {}


def _label(texts: Mapping[str, str]) -> str | None:
    for suffix in (".cls", ".cls.txt"):
        if suffix in texts and texts[suffix].strip():
            return clean_name(texts[suffix].strip())
    try:
        values = json.loads(texts.get(".json", "{}"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    value = next((values[name] for name in _IN_JSON if name in values), None)
    return clean_name(str(value)) if isinstance(value, int | str) else None


def _is_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal() and len(label) < 18


def _names(captions: Sequence[Mapping[int, set[str]]]) -> tuple[str, ...] | None:
    """The names of the numbers, if the texts say just one name for each and no name twice."""
    said: dict[int, set[str]] = {}
    for each in captions:
        for number, texts in each.items():
            said.setdefault(number, set()).update(texts)
    names = [clean_name(next(iter(said[number]))) for number in sorted(said)]
    numbered = sorted(said) == list(range(len(said)))
    plain = all(len(texts) == 1 for texts in said.values())
    short = all(name and len(name) <= _LONGEST_NAME for name in names)
    unique = len(set(names)) == len(names)
    return tuple(names) if said and numbered and plain and short and unique else None


def not_shards(root: Path, archives: Sequence[Archive]) -> InputError:
    """The error of a folder of archives that are no shards of a WebDataset."""
    names = ", ".join(archive.path.name for archive in archives[:3])
    more = ", …" if len(archives) > 3 else ""
    nested = next((archive for archive in archives if archive.archives), None)
    inside = f"; {nested.path.name} holds further archives" if nested is not None else ""
    return InputError(
        f"{root} holds {counted(len(archives), 'archive')} ({names}{more}) without labels beside "
        f"their images{inside}; give one of them as the data, or extract each into a folder of its "
        "name."
    )
