"""`open_source`: from what the user calls the data to splits that can be streamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from gencond_fast.config import Device, ReaderName
from gencond_fast.data.classes import find_classes, select
from gencond_fast.data.contract import Opened, Split, Subset
from gencond_fast.data.formats.opening import KNOWN_NAMES, open_data
from gencond_fast.data.health.badlist import read_bad_list
from gencond_fast.data.inspection import inspect
from gencond_fast.data.labels import stratified_split
from gencond_fast.data.readers.choice import choose_reader
from gencond_fast.data.skipping import Skipping
from gencond_fast.errors import InputError
from gencond_fast.system.words import counted

__all__ = ["KNOWN_NAMES", "Source", "Split", "open_source"]

_FINGERPRINT_DIGITS = 32


@dataclass(frozen=True, eq=False)
class Source:
    """A data set, opened: labels in memory, images on demand.

    Attributes:
        location: what the user called it.
        class_names: the name of label k at place k.
        titles: readable names, in the same order; the class names where there are none.
        channels: 1 if every image is gray, else 3.
        train: the training split.
        val: the validation split, or None.
        fingerprint: 32 hex digits that change with the data (files by name, size and time of
            modification, arrays by content), with the split and with the choice of classes.
        native_size: shorter side of the first training image.
    """

    location: str
    class_names: tuple[str, ...]
    titles: tuple[str, ...]
    channels: int
    train: Split
    val: Split | None
    fingerprint: str
    native_size: int

    @property
    def left_out(self) -> dict[str, object] | None:
        """What names the images that are left out from the start, None if all must be decoded.

        Part of the key of everything computed from the images and kept.
        """
        if self.train.skipping is None:
            return None
        known = hashlib.sha256(self.train.skipping.known.tobytes()).hexdigest()
        return {"on_bad_image": "skip", "known": known}

    @property
    def decoder(self) -> str | None:
        """Who decodes the images, None where Pillow does: others' pixels differ a little.

        Part of the key of everything computed from the images and kept.
        """
        if self.train.reader != "dali":
            return None
        return "dali on a GPU" if torch.cuda.is_available() else "dali"

    def tell_left_out(self, tell: Callable[[str], None]) -> None:
        """Counts the images left out so far in a line, if there were any: a job's last word."""
        splits = [split for split in (self.train, self.val) if split is not None]
        skipped = [split.skipping for split in splits if split.skipping is not None]
        count, known = sum(map(len, skipped)), sum(len(each.known) for each in skipped)
        if count:
            tell(
                f"left out {count:,} of {counted(sum(map(len, splits)), 'image')}, which cannot be "
                "decoded: "
                f"{known:,} known from `gencond-fast data check`, {count - known:,} met on the way"
            )


def open_source(
    data: str,
    *,
    val_fraction: float | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    in_given_order: bool = False,
    on_bad_image: Literal["error", "skip"] = "error",
    reader: ReaderName = "auto",
    device: Device = "auto",
    tell: Callable[[str], None] = lambda line: None,
) -> Source:
    """Opens a data set by path or name, reading labels and as few image headers as it can.

    Kinds: a folder `train/CLASS/*` with `val`, `validation` or `test` beside it, or just
    `CLASS/*`; an uncompressed `.tar` of such a folder; a folder or file of parquet in the hub's
    layout; a `.npz` file or a folder with `train.npz`; a known name (`digits`, while `./digits`
    is a folder). Where a source has more than one validation split, `val` goes before
    `validation` and `test`.

    With `on_bad_image="skip"`, images whose content cannot be decoded take part in nothing. Those
    that `gencond-fast data check` has listed are not touched; the others are named when they are
    met, and which of the two an image is changes no result. An image that is gone or may not be
    read is an error unless it is listed.

    Memory: 8 bytes an image for labels and 16 to 70 for finding it (file names are the most of
    it), none for pixels.

    Args:
        data: path or known name.
        val_fraction: share of every class of the training split to set apart for validation,
            0 < share < 1; a validation split of the source's own is left untouched. The same
            images of a class are set apart whichever classes are chosen.
        seed: chooses which images are set apart.
        classes: names of the classes to keep, at least two; None keeps all.
        in_given_order: label k is `classes[k]`; else the classes keep the order of the data.
        on_bad_image: `error` or `skip`, see above.
        reader: who decodes the images, see `choice.choose_reader`.
        device: where they are wanted, of which an automatic choice depends.
        tell: called with a line that names the reader, and one for each bad image that is met.

    Raises:
        InputError: one sentence that names what is wrong and what to do.
    """
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise InputError(
            f"val_fraction is {val_fraction}; choose a share between 0 and 1, such as 0.1."
        )
    opened = open_data(data)
    if len(opened.class_names) < 2:
        raise InputError(
            f"{data} has only one class, {opened.class_names[0]!r}; add images of another."
        )
    train, val, digest = opened.train, opened.val, opened.digest
    if val_fraction is not None:
        train, val = _set_apart(opened, data, val_fraction, seed)
        digest = hashlib.sha256(f"{digest} {val_fraction!r} {seed}".encode()).hexdigest()
    names, titles = opened.class_names, opened.titles or opened.class_names
    if classes is not None:
        kept = find_classes(classes, names, opened.titles, data)
        kept = kept if in_given_order else sorted(kept)
        if kept != list(range(len(names))):
            train = select(train, kept, len(names))
            val = None if val is None else select(val, kept, len(names))
            names, titles = (tuple(each[label] for label in kept) for each in (names, titles))
            digest = hashlib.sha256(f"{digest} {json.dumps(names)}".encode()).hexdigest()
    if on_bad_image == "skip":
        parts = ("train", "val" if val_fraction is None else "train")
        _skip(opened.digest, (train, val), parts, names, data, tell)
    choose_reader(reader, [train] if val is None else [train, val], device, tell)
    channels, native_size = inspect((train, val), f"{digest} {on_bad_image}")
    if not native_size:
        raise InputError(
            f"{data} holds no image that can be decoded; see `gencond-fast data check`."
        )
    return Source(
        location=data,
        class_names=names,
        titles=titles,
        channels=channels,
        train=train,
        val=val,
        fingerprint=digest[:_FINGERPRINT_DIGITS],
        native_size=native_size,
    )


def _set_apart(opened: Opened, data: str, fraction: float, seed: int) -> tuple[Split, Split]:
    kept, apart = stratified_split(opened.train.labels, fraction, seed)
    if len(apart) == 0:
        raise InputError(
            f"{data} has one image of each class, so val_fraction {fraction} cannot set any "
            "apart; add images or leave val_fraction out."
        )
    return Subset(opened.train, kept), Subset(opened.train, apart)


def _skip(
    digest: str,
    splits: tuple[Split, Split | None],
    parts: tuple[str, str],
    names: tuple[str, ...],
    data: str,
    tell: Callable[[str], None],
) -> None:
    """Lets the splits leave out what cannot be decoded, beginning with what a check has listed.

    Each split is taken from the part of the container that stands at its place in `parts`.
    """
    listed = read_bad_list(digest, names)
    for split, part in zip(splits, parts, strict=True):
        if split is None:
            continue
        rows = np.zeros(0, dtype=np.int64) if listed is None else listed.rows(part)
        places = split.origin(np.arange(len(split))) if len(rows) else rows
        split.skipping = Skipping(np.flatnonzero(np.isin(places, rows)), tell)
    train = splits[0]
    assert train.skipping is not None
    good = np.delete(train.labels, train.skipping.known)
    refuse_empty_class(np.bincount(good, minlength=len(names)), names, data)


def refuse_empty_class(counts: np.ndarray, names: Sequence[str], data: str) -> None:
    """Raises InputError naming the first class whose images were all left out, if there is one."""
    if not counts.all():
        raise InputError(
            f"{data} has no image of the class {names[int(np.argmin(counts))]!r} that can be "
            "decoded; replace its images (`gencond-fast data check` lists them) or leave the class "
            "out with --classes."
        )
