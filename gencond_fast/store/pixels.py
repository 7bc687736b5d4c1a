"""Plain images as a stored set: the baseline that every claim for the generator is held against."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.errors import InputError
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet, straight_through


class PixelSet(StoredSet):
    """uint8 images [n, channels, s, s], enlarged to the image size where s is smaller.

    A side s of half the image size is IDC's multi-formation with factor 2 (2205.14959): four
    times as many images for the same bytes.
    """

    owned = frozenset({"images"})

    def __init__(self, spec: StoreSpec, *, seed: int = 0) -> None:
        super().__init__(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shape = (spec.samples, spec.channels, spec.code_size, spec.code_size)
            self.images = nn.Parameter(torch.rand(shape))

    def forward(self, index: Tensor) -> Tensor:
        """See `StoredSet.forward`."""
        stored = self.images[index]
        images = straight_through(stored, (stored.clamp(0.0, 1.0) * 255.0).round() / 255.0)
        if self.spec.code_size == self.spec.image_size:
            return images
        side = (self.spec.image_size, self.spec.image_size)
        return F.interpolate(images, size=side, mode="bilinear", align_corners=False)

    def sample_around(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Pixels hold no codes to draw from."""
        raise InputError(
            "format 'pixels' has no codes to draw a stream from: use the stored set, "
            "or condense with --set store.format=generator"
        )

    @torch.no_grad()
    def init_from_images(self, images: Tensor) -> None:
        """See `StoredSet.init_from_images`. Larger images are averaged to the stored size."""
        side = (self.spec.code_size, self.spec.code_size)
        smaller = F.interpolate(images.float(), size=side, mode="area")
        self.images.copy_(smaller / 255.0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Pixels learn ten times as fast as decoder weights, like codes."""
        return [{"params": [self.images], "scale": 10.0}]

    def images_to_storage(self) -> dict[str, Tensor]:
        """`images` uint8 [n, channels, s, s]."""
        return {"images": (self.images.detach().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)}

    def load_images(self, tensors: dict[str, Tensor]) -> None:
        """See `StoredSet.load_images`."""
        with torch.no_grad():
            self.images.copy_(tensors["images"].float() / 255.0)
