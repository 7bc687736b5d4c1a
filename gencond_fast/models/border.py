"""Where images stop being small, and networks take the strides that ImageNet's have."""

from __future__ import annotations

_LARGEST_SMALL = 64  # pixels


def is_large(image_size: int) -> bool:
    """Whether images have more than 64 pixels a side.

    ImageNet's strides shrink an image 32 times, those for small images 8 times: 32 pixels to a map
    of 4 x 4, and 128 pixels likewise.
    """
    return image_size > _LARGEST_SMALL
