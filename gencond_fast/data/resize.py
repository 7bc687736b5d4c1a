"""From any size to a square: a window of whole pixels is cut out and resized."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from gencond_fast.data.crop import Window


def central(width: int, height: int) -> Window:
    """The largest square in the centre; what is left over by an odd pixel is right or below."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def fit(pixels: np.ndarray, size: int, window: Window | None = None) -> np.ndarray:
    """Cuts out a window and resizes it, bicubic (a = -1/2) and antialiased.

    The same filter as Pillow's, from PyTorch's vectorised code for bytes. As there, pixels are
    rounded and clipped between the two directions, which may come in the other order: on
    photographs no pixel is more than two of 255 levels away from Pillow's, on noise that is clipped
    some are by tens.

    Args:
        pixels: uint8 [H, W, channels].
        size: S, height and width of the result.
        window: within the image; None is `central`.

    Returns:
        uint8 [S, S, channels]; a view where the window has that size already.
    """
    left, top, right, bottom = window or central(pixels.shape[1], pixels.shape[0])
    cut = pixels[top:bottom, left:right]
    if cut.shape[:2] == (size, size):
        return cut
    # a copy of the window alone: what decoders give is read-only
    planes = torch.from_numpy(np.array(cut)).permute(2, 0, 1).unsqueeze(0)
    resized = F.interpolate(planes, (size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Returns uint8 [..., channels] from [..., 1 or 3]: gray is repeated, RGB becomes luma."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    # ITU-R 601 luma in Pillow's fixed point, so that every container gives the same gray.
    luma = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
