"""`open_source`: from a path or a known name to a data set whose images can be streamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from gencond_fast.config import Device, ReaderName, Transparency
from gencond_fast.data.classes import find_classes, select
from gencond_fast.data.contract import Opened, Split, Subset
from gencond_fast.data.depth import refuse_unscaled
from gencond_fast.data.digest import BY_CONTENTS
from gencond_fast.data.formats.opening import KNOWN_NAMES, open_data
from gencond_fast.data.formats.splits import choose_test
from gencond_fast.data.health.badlist import BadList, read_bad_list
from gencond_fast.data.inspection import inspect
from gencond_fast.data.labels import refuse_empty_class, stratified_split
from gencond_fast.data.readers.choice import choose_reader
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.skipping import Skipping
from gencond_fast.errors import InputError
from gencond_fast.system.words import counted

__all__ = ["KNOWN_NAMES", "Source", "Split", "open_source"]

_FINGERPRINT_DIGITS = 32


@dataclass(frozen=True, eq=False)
class Source:
    """An opened data set: labels in memory, images on demand.

    Attributes:
        location: the path or name that the user gave.
        class_names: the name of label k at place k.
        titles: readable names in the same order; the class names where there are none.
        channels: 1 if every image is gray, else 3.
        train: the training images.
        val: the validation images, or None.
        fingerprint: 32 hex digits that change with the data (see `digest`), with what is held out
            and with the choice of classes.
        native_size: shorter side of the first training image in pixels.
        tested_on: the name of the split that `val` is; None where there is none, or where `val`
            was set apart from the training images.
        test_splits: the names of all splits to test on, the preferred one first.
        unusable: splits that cannot be tested on by name, and why.
        compared: what the fingerprint is of, in words.
    """

    location: str
    class_names: tuple[str, ...]
    titles: tuple[str, ...]
    channels: int
    train: ImageReader
    val: ImageReader | None
    fingerprint: str
    native_size: int
    tested_on: str | None = None
    test_splits: tuple[str, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    compared: str = BY_CONTENTS

    @property
    def test_identity(self) -> dict[str, str]:
        """Names the split that is tested on where it is not the default one.

        It is part of the cache key of everything that is computed from test images, as the
        fingerprint does not change with it.
        """
        default = self.test_splits[0] if self.test_splits else None
        return {} if self.tested_on in (None, default) else {"tested_on": str(self.tested_on)}

    @property
    def left_out(self) -> dict[str, object] | None:
        """Names the images that are left out from the start; None if all must be decodable.

        It is part of the cache key of everything that is computed from the images.
        """
        if self.train.skip is None:
            return None
        known = hashlib.sha256(self.train.skip.known.tobytes()).hexdigest()
        return {"on_bad_image": "skip", "known": known}

    @property
    def decoder(self) -> str | None:
        """Names a decoder whose pixels differ a little from Pillow's; None where Pillow decodes.

        It is part of the cache key of everything that is computed from the images.
        """
        if self.train.reader != "dali":
            return None
        return "dali on a GPU" if torch.cuda.is_available() else "dali"

    def tell_left_out(self, tell: Callable[[str], None]) -> None:
        """Says at the end of a job how many images were left out, if there were any."""
        splits = [images for images in (self.train, self.val) if images is not None]
        skipped = [images.skip for images in splits if images.skip is not None]
        count, known = sum(map(len, skipped)), sum(len(skip.known) for skip in skipped)
        if count:
            tell(
                f"left out {count:,} of {counted(sum(map(len, splits)), 'image')}, which cannot be "
                "decoded: "
                f"{known:,} known from `gencond-fast data check`, "
                f"{count - known:,} found while reading"
            )

    def subset(self, rows: np.ndarray, tell: Callable[[str], None]) -> Source:
        """The same data set with some of its training images alone.

        Its fingerprint is another one, so that nothing in a cache is confused with it.

        Args:
            rows: ascending int64 rows of the training split, at least one of each class.
            tell: called with a line for each undecodable image that the subset finds.
        """
        digest = hashlib.sha256(self.fingerprint.encode() + rows.astype("<i8").tobytes())
        fingerprint = digest.hexdigest()[: len(self.fingerprint)]
        return replace(self, train=self.train.subset(rows, tell), fingerprint=fingerprint)


def open_source(
    data: str,
    *,
    val_fraction: float | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    in_given_order: bool = False,
    test_split: str | None = None,
    label_column: str | None = None,
    transparency: Transparency | None = None,
    on_bad_image: Literal["error", "skip"] = "error",
    reader: ReaderName = "auto",
    device: Device = "auto",
    tell: Callable[[str], None] = lambda line: None,
) -> Source:
    """Opens a data set by path or name; reads labels and as few image headers as it can.

    For example::

        source = open_source("/data/imagenet", val_fraction=0.1)
        len(source.train), source.class_names, source.native_size

    It opens

    - a folder `train/CLASS/*` with `val/CLASS/*` or `test/CLASS/*`, or just `CLASS/*`;
    - an uncompressed `.tar` of such a folder;
    - a file or a folder of parquet in the layouts of the Hugging Face hub;
    - a `.npz` file or a folder with `train.npz`;
    - a known name: `digits` (a folder of that name is `./digits`).

    The guide on data has a table of all layouts. Of several splits to test on, validation goes
    before test.

    With `on_bad_image="skip"`, images whose content cannot be decoded take part in nothing. Those
    that `gencond-fast data check` has listed are never read. Others are reported when they are
    found. Results do not depend on which of the two an image is. An image that is missing or may
    not be read is an error unless it is listed.

    Memory: 8 bytes an image for its label, 16 to 70 for where it is (mostly its file name), none
    for pixels.

    Args:
        data: path or known name.
        val_fraction: share of each class of the training split that is set apart for validation,
            between 0 and 1. A validation split of the data set is not used then. The choice of
            classes does not change which images of a class are set apart.
        seed: chooses which images are set apart.
        classes: names of the classes to keep, at least two; None keeps all.
        in_given_order: label k is `classes[k]`; else the classes keep the order of the data.
        test_split: name of the split to test on; None takes the preferred one. With `val_fraction`
            it takes the place of the images that are set apart.
        label_column: the column of labels of a table; None looks for one.
        transparency: ground of transparent images, see `transparency.opaque`; None is white.
        on_bad_image: `error` or `skip`, see above.
        reader: who decodes the images, see `choice.choose_reader`.
        device: where the images are wanted; `reader="auto"` depends on it.
        tell: called with a line for what is left out or guessed, one that names the reader, and one
            for each undecodable image found.

    Raises:
        InputError: the data cannot be used. Its sentence says what is wrong and what to do.
    """
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise InputError(
            f"val_fraction is {val_fraction}; choose a share between 0 and 1, such as 0.1."
        )
    opened = open_data(data, label_column)
    for note in opened.notes:
        tell(note)
    if len(opened.class_names) < 2:
        raise InputError(
            f"{data} has only one class, {opened.class_names[0]!r}; add images of another."
        )
    tested_on = _tested_on(opened, data, test_split, val_fraction is not None)
    train, digest = opened.train, opened.digest
    val = None if tested_on is None else opened.tests[tested_on]
    if val_fraction is not None:
        train, apart = _set_apart(opened, data, val_fraction, seed)
        val = apart if val is None else val
        digest = hashlib.sha256(f"{digest} {val_fraction!r} {seed}".encode()).hexdigest()
    if transparency not in (None, "white"):
        digest = hashlib.sha256(f"{digest} {transparency}".encode()).hexdigest()
    names, titles = opened.class_names, opened.titles or opened.class_names
    if classes is not None:
        kept = find_classes(classes, names, opened.titles, data)
        kept = kept if in_given_order else sorted(kept)
        if kept != list(range(len(names))):
            train = select(train, kept, len(names))
            val = None if val is None else select(val, kept, len(names))
            names = tuple(names[label] for label in kept)
            titles = tuple(titles[label] for label in kept)
            digest = hashlib.sha256(f"{digest} {json.dumps(names)}".encode()).hexdigest()
    train_skip = val_skip = None
    if on_bad_image == "skip":
        listed = read_bad_list(opened.digest, names)
        train_skip = _skipped(train, "train", listed, tell)
        if val is not None:
            val_skip = _skipped(val, tested_on or "train", listed, tell)
        good = np.delete(train.labels, train_skip.known)
        refuse_empty_class(np.bincount(good, minlength=len(names)), names, data)
    # with images that are stored as pixels there is nothing to choose
    name = "threads" if train.shape is not None else choose_reader(reader, device, tell)
    ground = transparency or "white"
    images = ImageReader(train, name, train_skip, transparency=ground)
    val_images = None if val is None else ImageReader(val, name, val_skip, transparency=ground)
    refuse_unscaled(images, data)
    chosen = "" if test_split is None else f" {tested_on}"
    channels, native_size = inspect((images, val_images), f"{digest} {on_bad_image}{chosen}")
    if not native_size:
        raise InputError(
            f"{data} holds no image that can be decoded; see `gencond-fast data check`."
        )
    return Source(
        location=data,
        class_names=names,
        titles=titles,
        channels=channels,
        train=images,
        val=val_images,
        fingerprint=digest[:_FINGERPRINT_DIGITS],
        native_size=native_size,
        tested_on=tested_on,
        test_splits=tuple(opened.tests),
        unusable=opened.unusable,
        compared=opened.compared,
    )


def _tested_on(opened: Opened, data: str, wanted: str | None, held_out: bool) -> str | None:
    """The name of the split to test on; None where there is none, or a part is held out instead."""
    if held_out and wanted is None:
        return None
    chosen = choose_test(opened.tests, wanted)
    if wanted is None or chosen is not None:
        return chosen
    if wanted in opened.unusable:
        raise InputError(f"{data} cannot be tested on {wanted!r}: {opened.unusable[wanted]}.")
    have = f"it has {', '.join(opened.tests)}" if opened.tests else "it has none"
    raise InputError(f"{data} has no one split {wanted!r} to test on; {have}.")


def _set_apart(opened: Opened, data: str, fraction: float, seed: int) -> tuple[Split, Split]:
    kept, apart = stratified_split(opened.train.labels, fraction, seed)
    if len(apart) == 0:
        raise InputError(
            f"{data} has one image of each class, so val_fraction {fraction} cannot set any "
            "apart; add images or leave val_fraction out."
        )
    return Subset(opened.train, kept), Subset(opened.train, apart)


def _skipped(
    split: Split, part: str, listed: BadList | None, tell: Callable[[str], None]
) -> Skipping:
    """What a split leaves out: at first the images that a check has listed.

    Args:
        split: the split, or a subset of it.
        part: the name of the split of the container, as `train` or `val`.
        listed: the undecodable images of the container; None where no check was made.
        tell: called with a line for each image that is found later.
    """
    rows = np.zeros(0, dtype=np.int64) if listed is None else listed.rows(part)
    places = split.origin(np.arange(len(split))) if len(rows) else rows
    return Skipping(np.flatnonzero(np.isin(places, rows)), tell)
