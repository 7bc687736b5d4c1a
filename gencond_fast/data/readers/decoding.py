"""From the encoded bytes of an image to its pixels in a batch, with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from gencond_fast.data.contract import Block, Load
from gencond_fast.data.crop import window
from gencond_fast.data.decode import decode, fetch
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.resize import fit, with_channels
from gencond_fast.data.skipping import BadImage

Shape = Sequence[float]
"""A random window relative to an image whose size is not known yet, see `RandomCrop.shapes`."""


def pixels(
    item: Load | np.ndarray, images: ImageReader, row: int, form: Form, shape: Shape | None
) -> np.ndarray:
    """Decodes one image into its form: uint8 [S, S, channels].

    Args:
        item: the image, encoded or as pixels uint8 [H, W, 1 or 3].
        images: names it in messages, and says what shows through it.
        row: of the image in `images`.
        form: what it is brought into.
        shape: its random window; None takes the largest centred square.

    Raises:
        InputError: the image cannot be read; `BadImage` where it cannot be decoded.
    """
    found = None if shape is None else partial(window, shape)
    if isinstance(item, np.ndarray):
        box = None if found is None else found(item.shape[1], item.shape[0])
        return fit(with_channels(item, form.channels), form.size, box)
    where = images.where(row)
    data = fetch(item, where)
    return decode(
        data,
        channels=form.channels,
        where=where,
        image_size=form.size,
        transparency=images.transparency,
        window=found,
    )


def shapes(form: Form, rows: np.ndarray) -> Sequence[Shape | None]:
    """The random windows of the images at `rows`; None for each where `form` has no random crop."""
    if form.crop is None:
        return [None] * len(rows)
    return form.crop.shapes(form.crop.draws(rows)).tolist()


Undecodable = list[tuple[int, BadImage]]
"""Places in a block of the images that cannot be decoded, and what is wrong with each."""


def decode_block(
    images: ImageReader,
    form: Form,
    block: Block,
    rows: np.ndarray,
    bad: np.ndarray,
    out: np.ndarray,
) -> Undecodable:
    """Decodes the images of a block into memory that is already there.

    Args:
        images: where the block was read.
        form: what its images are brought into.
        block: n images.
        rows: int64 [n], their rows.
        bad: bool [n], which of them are known to be undecodable and are not touched.
        out: uint8 [n, channels, S, S], filled but for undecodable images.

    Returns:
        The images that turned out to be undecodable.

    Raises:
        InputError: an image cannot be read; `BadImage` unless undecodable images are skipped.
    """
    found = []
    drawn = shapes(form, rows)
    for place, item in enumerate(block):
        if bad[place]:
            continue
        try:
            decoded = pixels(item, images, int(rows[place]), form, drawn[place])
        except BadImage as error:
            if images.skip is None:
                raise
            found.append((place, error))
        else:
            out[place] = decoded.transpose(2, 0, 1)
    return found


def leave_out(images: ImageReader, rows: np.ndarray, bad: np.ndarray, found: Undecodable) -> None:
    """Leaves out from now on what was found undecodable at `rows`, and marks it in `bad`."""
    for place, error in found:
        images.skip_or_raise(int(rows[place]), error)
        bad[place] = True
