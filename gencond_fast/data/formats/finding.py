"""The files of tables, arrays or archives below a folder, sorted into splits by their names.

Known are the layouts of the Hugging Face hub (`train-00000-of-00002.parquet`, also in `data/` or in
the folder of a configuration, `train/0000.parquet`), of `datasets.save_to_disk`, and of Spark
(`train.parquet/part-00000.parquet`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gencond_fast.data.formats.names import is_hidden, is_image
from gencond_fast.data.formats.splits import kind_within, order_of, split_files, words_of
from gencond_fast.errors import InputError
from gencond_fast.system.words import counted

_DEPTH = 3
_MOST_IMAGES = 100  # beside files of tables
_MOST_FOLDERS = 64  # a tree of class folders has more, and is not searched
# older files of the hub have a hash at the end: train-00000-of-00002-a09b74b3ef9c3b56
_SHARD = re.compile(r"(.*?)[-_.]?(\d+)-of-(\d+)(?:-[0-9a-f]{6,64})?")
_NUMBER = re.compile(r"(.*?)[-_.]?(\d+)")


@dataclass(frozen=True)
class Found:
    """The files of a data set.

    Attributes:
        train: of the training split, in order.
        tests: of each split to test on by name, validation first.
        notes: a line each about what is left out or taken together.
    """

    train: list[Path]
    tests: dict[str, list[Path]]
    notes: tuple[str, ...] = ()


def find_files(root: Path, suffix: str) -> Found | None:
    """The files below a folder whose names end in `suffix`; None where there are none.

    Raises:
        InputError: there are several configurations, shards are missing, or there is no training
            split.
    """
    files = [path for path in _below(root, suffix, _DEPTH) if _is_data(path)]
    if not files:
        return None
    files, notes = _of_one_configuration(root, files, suffix)
    names = {str(file.relative_to(root)): _split_name(file, root, suffix) for file in files}
    splits = split_files({name: split or "" for name, split in names.items()})
    if splits is None:
        prefixes = _by_prefix(files, suffix)
        _refuse_missing(prefixes, root)
        return Found(files, {}, (*notes, *_gaps(prefixes, root)))
    if not splits.train:
        raise InputError(
            f"{root} holds {splits.tests[0]} but no training file; add train{suffix} or give that "
            "file itself as the data."
        )
    unsaid = [name for name in names if name not in (*splits.train, *splits.tests)]
    if unsaid:
        notes.append(
            f"left out: {counted(len(unsaid), 'file')} whose names say no split, such as "
            f"{unsaid[0]}"
        )
    tests: dict[str, list[str]] = {}
    for name in splits.tests:
        tests.setdefault(_shown(names[name] or ""), []).append(name)
    found = Found(
        [root / name for name in splits.train],
        {name: [root / each for each in tests[name]] for name in sorted(tests, key=order_of)},
    )
    shards: dict[str, list[Path]] = {}
    for part in (found.train, *found.tests.values()):
        shards |= _by_prefix(part, suffix)
    _refuse_missing(shards, root)
    merged = sorted({names[name] or "" for name in splits.train})
    if len(merged) > 1:
        notes.append(f"read as one training split: {', '.join(merged)}")
    if any("partial" in words_of(name) for name in names):
        notes.append(f"{root} says that it holds a part of the data only (partial)")
    return Found(found.train, found.tests, (*notes, *_gaps(shards, root)))


def holds_images(root: Path) -> bool:
    """Whether there are folders with images below a folder, as in a tree of classes."""
    return any(
        is_image(name)
        for folder in _folders(root, _DEPTH)
        if folder != root
        for name in islice(_names(folder), _MOST_IMAGES)
    )


def _folders(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for entry in sorted(root.iterdir()):
            if entry.is_dir() and not is_hidden(entry.name):
                yield from _folders(entry, depth - 1)


def _names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _below(folder: Path, suffix: str, depth: int) -> Iterator[Path]:
    """Files of a suffix, sorted by path; leaves folders of images alone."""
    folders, found, images = [], [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.name.lower().endswith(suffix):
                    found.append(entry.name)
                elif is_image(entry.name):
                    images += 1
                    if images > _MOST_IMAGES and not found:
                        return
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); repair it.") from error
    yield from (folder / name for name in sorted(found))
    if depth > 1 and len(folders) <= _MOST_FOLDERS:
        for name in sorted(folders):
            yield from _below(folder / name, suffix, depth - 1)


def _is_data(path: Path) -> bool:
    """Whether a file is no by-product: Spark's `_metadata`, the caches of `datasets`."""
    return not path.name.startswith(("_", "cache-", "indices-", "tmp"))


def _of_one_configuration(
    root: Path, files: list[Path], suffix: str
) -> tuple[list[Path], list[str]]:
    """The files of the only configuration; those in the folder itself go before all others."""
    by_name: dict[str, list[Path]] = {}
    for file in files:
        above = file.relative_to(root).parts[:-1]
        words = [p for p in above if p != "data" and kind_within(p) is None and suffix not in p]
        by_name.setdefault("/".join(words), []).append(file)
    if len(by_name) == 1:
        return files, []
    if "" not in by_name:
        raise InputError(
            f"{root} holds several configurations ({', '.join(by_name)}); give the folder of one "
            "of them as the data."
        )
    others = sorted(set(by_name) - {""})
    count = counted(sum(len(by_name[name]) for name in others), "file")
    return by_name[""], [f"left out: {count} in {', '.join(others)} below {root}"]


def _split_name(file: Path, root: Path, suffix: str) -> str | None:
    """The part of a path that says the split: the file's own name, else a folder's."""
    *above, name = file.relative_to(root).parts
    for part in (name[: -len(suffix)], *reversed(above)):
        stem = _prefix(part.removesuffix(suffix))
        if kind_within(stem) is not None:
            return stem
    return None


def _shown(stem: str) -> str:
    """The name of a split, without what stands before it: `validation` of `cifar10-validation`."""
    words = [word for word in words_of(stem) if kind_within(word) is not None]
    return words[0] if len(words) == 1 and stem.lower().endswith(words[0]) else stem


def _prefix(stem: str) -> str:
    """The name of a file without the number of its shard."""
    for pattern in (_SHARD, _NUMBER):
        found = pattern.fullmatch(stem.split(".")[0] if pattern is _SHARD else stem)
        if found and found[1]:
            return found[1]
    return stem


def _by_prefix(files: Sequence[Path], suffix: str) -> dict[str, list[Path]]:
    """Files by folder and by name without numbers."""
    found: dict[str, list[Path]] = {}
    for file in files:
        stem = file.name[: -len(suffix)]
        sharded = _SHARD.match(stem) or _NUMBER.fullmatch(stem)
        found.setdefault(f"{file.parent}/{sharded[1] if sharded else stem}", []).append(file)
    return found


def _refuse_missing(prefixes: dict[str, list[Path]], root: Path) -> None:
    """Raises where a name states how many shards there are and others are there."""
    for files in prefixes.values():
        stated = [found for file in files if (found := _SHARD.match(file.name)) is not None]
        if not stated:
            continue
        totals = {int(found[3]) for found in stated}
        if len(totals) > 1 or len(stated) < len(files):
            raise InputError(
                f"{root} holds shards of different sets ({files[0].name} and {files[-1].name}); "
                "keep those of one."
            )
        total, numbers = totals.pop(), [int(found[2]) for found in stated]
        first = 1 if max(numbers) == total else 0
        missing = sorted(set(range(first, first + total)) - set(numbers))
        if missing or len(numbers) != total:
            shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            problem = f"without number {shown}" if missing else "some of them twice"
            raise InputError(
                f"{root} holds {len(numbers)} of {total} shards, such as {files[0].name}, "
                f"{problem}; fetch the missing ones, or rename the files if that is all there is."
            )


def _gaps(prefixes: dict[str, list[Path]], root: Path) -> list[str]:
    """Lines about numbers that are left out where no name states how many there are."""
    notes = []
    for files in prefixes.values():
        found = [_NUMBER.match(file.name) for file in files if _SHARD.match(file.name) is None]
        numbers = sorted(int(each[2]) for each in found if each is not None)
        missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers)) if numbers else []
        if missing and len(missing) <= len(numbers):
            notes.append(f"{root} has no file number {missing[0]}, but {files[-1].name}")
    return notes
