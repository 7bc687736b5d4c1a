"""One interface for what a condensed file holds: labelled samples that can be decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gencond_fast.store.soft_labels import SoftLabels
from gencond_fast.store.spec import StoreSpec

Add = Callable[[Sequence[Tensor]], None]
"""Adds something to tensors, in place."""


def as_it_is(tensors: Sequence[Tensor]) -> None:
    """Adds nothing: the part is the whole."""


class StoredSet(nn.Module, ABC):
    """A finite list of labelled images in a form that gradients can reach.

    Samples are ordered by class: sample `i` belongs to class `i // per_class`.

    Attributes:
        spec: its sizes.
        owned: names of the parameters whose rows belong to classes, as many to each; all else in
            the state is shared by them.
    """

    owned: ClassVar[frozenset[str]]

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__()
        self.spec = spec
        self.soft_labels = SoftLabels(spec)

    def labels(self, index: Tensor) -> Tensor:
        """Classes [B] int64 of the samples `index` [B] int64."""
        return index // self.spec.per_class

    def targets(self, index: Tensor) -> Tensor:
        """Class probabilities [B, C] float32 of the samples `index` [B]; one-hot where hard."""
        return self.soft_labels(index)

    @abstractmethod
    def forward(self, index: Tensor) -> Tensor:
        """Decodes samples `index` [B] int64 to float32 images [B, channels, S, S] in [0, 1].

        The rounding of codes or pixels for storage is part of the forward pass, and gradients
        pass straight through it.
        """

    @abstractmethod
    def sample_around(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Decodes new samples drawn around the stored ones `index` [B]; shapes as `forward`.

        Raises:
            InputError: the format holds nothing to draw from.
        """

    def init_from_images(self, images: Tensor) -> None:
        """Takes real images as its samples, as far as its bytes allow.

        Args:
            images: uint8 [n, channels, S, S], one for each sample.

        Raises:
            NotImplementedError: the format can only be fitted to images.
        """
        raise NotImplementedError

    def rate(self, index: Tensor) -> Tensor | None:
        """What the codes of samples [B] weigh together, in units of the loss of one sample.

        None where all weigh alike.
        """
        return None

    def start_price(self) -> None:
        """Starts the search for the price in `rate` anew, for losses of features or weights."""
        return

    def update_price(self, add: Add = as_it_is) -> None:
        """Moves the price in `rate` towards one at which the bytes are just used.

        Args:
            add: puts the sums over all parts of a stored set, of which this is one, into tensors.
        """

    def _partners(self, index: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Another sample of the same class for each of [B], and how far to go: up to half-way."""
        per_class = self.spec.per_class
        draw = torch.rand(2, len(index), generator=rng).to(index.device)
        place = index % per_class
        away = 1 + (draw[0] * (per_class - 1)).long()  # never the sample itself
        return index - place + (place + away) % per_class, 0.5 * draw[1]

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups, each with `scale`: how much faster than the stage it learns."""

    @abstractmethod
    def images_to_storage(self) -> dict[str, Tensor]:
        """The tensors of the file that the images are decoded from, in their stored types."""

    @abstractmethod
    def load_images(self, tensors: dict[str, Tensor]) -> None:
        """Takes over those tensors, whose shapes and types are already checked."""

    def compress_labels(self) -> None:
        """Codes soft labels, see `SoftLabels.compress`; the description says so from then on."""
        self.soft_labels.compress()
        self.spec = self.soft_labels.spec

    def to_storage(self) -> dict[str, Tensor]:
        """All tensors of the file, in their stored types."""
        return self.images_to_storage() | self.soft_labels.to_storage()

    def load_storage(self, tensors: dict[str, Tensor]) -> None:
        """Takes over the tensors of a file, which are already checked."""
        self.load_images(tensors)
        self.soft_labels.load_storage(tensors)


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """`rounded` in the forward pass, the gradient of `value` in the backward (1308.3432)."""
    return value + (rounded - value).detach()
