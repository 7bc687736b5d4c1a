"""From an image of any size to a square: cuts out a window of whole pixels and resizes it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from gencond_fast.data.crop import Window


def central(width: int, height: int) -> Window:
    """The largest square in the centre; an odd pixel is left over on the right or below."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def fit(pixels: np.ndarray, size: int, window: Window | None = None) -> np.ndarray:
    """Cuts out a window and resizes it, bicubic (a = -1/2) and antialiased.

    The filter is Pillow's, computed by PyTorch's vectorised code for bytes. Both round and clip
    pixels between the two directions, but may take the directions in another order. On photographs
    no pixel is more than two of 255 levels away from Pillow's; on clipped noise some are tens of
    levels away.

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
    """From uint8 [..., 1 or 3] to uint8 [..., channels]: gray is repeated, RGB becomes luma."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    # ITU-R 601 luma in Pillow's fixed point, so that every container gives the same gray.
    luma = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
