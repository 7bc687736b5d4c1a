"""From any size to a square: the shorter side is resized, the centre is kept."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gencond_fast.data.crop import Window


def fit(image: Image.Image, size: int, window: Window | None = None) -> Image.Image:
    """Resizes a window to a square of side `size`, bicubic and antialiased.

    Without a window it is the largest centred square, so a very long image costs no more than a
    square one; an image whose shorter side is `size` already keeps its pixels then.
    """
    if window is not None:
        return _resized(image, size, window)
    width, height = image.size
    short = min(width, height)
    if short == size:
        left, top = (width - size) // 2, (height - size) // 2
        return image if width == height else image.crop((left, top, left + size, top + size))
    across, down = (width - short) / 2, (height - short) / 2
    return _resized(image, size, (across, down, across + short, down + short))


def _resized(image: Image.Image, size: int, window: Window) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC, box=window, reducing_gap=3.0)


def fit_array(pixels: np.ndarray, size: int, window: Window | None = None) -> np.ndarray:
    """As `fit`, for uint8 [H, W, 1 or 3]; returns uint8 [size, size, same channels]."""
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    square = np.asarray(fit(Image.fromarray(np.ascontiguousarray(flat)), size, window))
    return square.reshape(size, size, pixels.shape[-1])


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Returns uint8 [..., channels] from [..., 1 or 3]: gray is repeated, RGB becomes luma."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    # ITU-R 601 luma in Pillow's fixed point, so that every container gives the same gray.
    luma = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
