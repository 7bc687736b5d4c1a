"""From the bytes of an image to its pixels in a batch: what all readers that use Pillow share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from gencond_fast.data.contract import Block, Load, Split
from gencond_fast.data.crop import window
from gencond_fast.data.decode import decode, fetch
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.resize import fit, with_channels
from gencond_fast.data.skipping import BadImage

Shape = Sequence[float]
"""A random window before it meets its image, see `RandomCrop.shapes`."""


def pixels(
    item: Load | np.ndarray, split: Split, row: int, form: Form, shape: Shape | None
) -> np.ndarray:
    """One image in its form, uint8 [S, S, channels]; `shape` is that of its window."""
    found = None if shape is None else partial(window, shape)
    if isinstance(item, np.ndarray):
        box = None if found is None else found(item.shape[1], item.shape[0])
        return fit(with_channels(item, form.channels), form.size, box)
    where = split.where(row)
    data = fetch(item, where)
    return decode(data, channels=form.channels, where=where, image_size=form.size, window=found)


def shapes(form: Form, rows: np.ndarray) -> Sequence[Shape | None]:
    """The shapes of the random windows of images at `rows`, None where they have none."""
    if form.crop is None:
        return [None] * len(rows)
    return form.crop.shapes(form.crop.draws(rows)).tolist()


Met = list[tuple[int, BadImage]]
"""Places of images that turned out to be bad, and what is wrong with them."""


def fill(
    split: Split, form: Form, block: Block, rows: np.ndarray, bad: np.ndarray, images: np.ndarray
) -> Met:
    """Decodes some images in place.

    Args:
        split: where they are.
        form: what they are brought into.
        block: [n], themselves.
        rows: int64 [n].
        bad: bool [n], which of them are not to be touched.
        images: uint8 [n, channels, S, S], to be filled.

    Raises:
        InputError: an image cannot be read; `BadImage` unless the split skips those.
    """
    met = []
    drawn = shapes(form, rows)
    for place, item in enumerate(block):
        if bad[place]:
            continue
        try:
            decoded = pixels(item, split, int(rows[place]), form, drawn[place])
        except BadImage as error:
            if split.skipping is None:
                raise
            met.append((place, error))
        else:
            images[place] = decoded.transpose(2, 0, 1)
    return met


def meet(split: Split, rows: np.ndarray, bad: np.ndarray, met: Met) -> None:
    """Tells the split of the bad images among those at `rows`, and marks them in `bad`."""
    for place, error in met:
        assert split.skipping is not None
        split.skipping.meet(int(rows[place]), error)
        bad[place] = True
