"""A condensed file as an ordinary PyTorch dataset."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from gencond_fast.errors import InputError
from gencond_fast.store.artifact import load
from gencond_fast.system.default_dtype import float32_default
from gencond_fast.system.files import expanded

Transform = Callable[[Any], Any]
Indices = slice | Sequence[int] | Tensor


class CondensedDataset(Dataset[tuple[Any, Any]]):
    """Images float32 [channels, H, W] in [0, 1] and their labels, decoded on demand.

    `data[7]` is one sample, (image, int). `data[2:5]`, `data[[0, -1]]` and `data[tensor]` (numbers
    or a mask) are a batch, (images [B, channels, H, W], labels int64 [B]). Negative indices count
    from the end, and an index beyond the end raises IndexError.

    `sampling="fixed"` gives the samples that the file holds. `sampling="fresh"` has the same
    length, but each access draws a new sample around the stored one, from PyTorch's global random
    state. With `soft_labels` a label is the class probabilities that the file holds for the sample
    (or for the one that a new sample is drawn around), float32 [C].

    Args:
        path: condensed file or run directory.
        device: where images are decoded and returned.
        sampling: `fixed` or `fresh`.
        soft_labels: whether labels are probabilities in place of ints.
        transform: called with each image; what it returns takes the place of the image.
        target_transform: called with each label; what it returns takes the place of the label.

    Attributes:
        classes: names of the classes, as torchvision has them.
        class_to_idx: the number of each class by its name.
        mean: of the real training images, one number a channel.
        std: likewise.
        labeller: the network in the file that gives logits [B, C] of normalised images, to label
            augmented views with; None where the file has none.

    Raises:
        InputError: the file cannot be used, the sampling is unknown or not in this format, or soft
            labels are asked for and the file has none.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        sampling: Literal["fixed", "fresh"] = "fixed",
        soft_labels: bool = False,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
    ) -> None:
        if sampling not in ("fixed", "fresh"):
            raise InputError(f"unknown sampling {sampling!r}: choose fixed or fresh")
        with float32_default:
            artifact = load(expanded(path))
            if sampling == "fresh":  # drawing no sample tells whether the format can
                artifact.store.sample_around(torch.arange(0), torch.Generator())
        if soft_labels:
            artifact.require_soft_labels(path, stored=True)
        self._store = artifact.store.to(device)
        self._device = torch.device(device)
        self._fixed = sampling == "fixed"
        self._soft_labels = soft_labels
        self.transform = transform
        self.target_transform = target_transform
        self.classes = list(artifact.metadata.class_names)
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.mean = artifact.metadata.mean
        self.std = artifact.metadata.std
        self.labeller = artifact.labeller.network.to(device) if artifact.labeller else None

    def __len__(self) -> int:
        return self._store.spec.samples

    @cached_property
    def targets(self) -> list[int]:
        """The class number of each sample, as torchvision has them."""
        targets: list[int] = self._store.labels(torch.arange(len(self))).tolist()
        return targets

    def images(self, indices: Indices) -> Tensor:
        """Decodes many samples at once, without `transform`: float32 [B, channels, H, W]."""
        return self._decode(self._numbers(indices))

    def soft_targets(self, indices: Indices) -> Tensor:
        """Class probabilities of many samples: float32 [B, C], one-hot where labels are hard."""
        with float32_default:
            return self._store.targets(self._numbers(indices).to(self._device))

    def __getitem__(self, index: int | Indices) -> tuple[Any, Any]:
        """One sample for an integer, a batch for a slice or for many indices."""
        if isinstance(index, slice | Sequence) or (isinstance(index, Tensor) and index.dim()):
            return self._batch(self._numbers(index))
        if getattr(index, "ndim", 0):  # an array of NumPy
            return self._batch(self._numbers(torch.as_tensor(index)))
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Serves a whole batch of a DataLoader in one decoding."""
        numbers = self._numbers(indices)
        images, labels = self._decode(numbers), self._labels(numbers)
        shown: Iterable[Any] = images
        if self.transform is not None:
            shown = map(self.transform, images)
        given: Iterable[Any] = labels if self._soft_labels else labels.tolist()
        if self.target_transform is not None:
            given = map(self.target_transform, given)
        return list(zip(shown, given, strict=True))

    def _batch(self, numbers: Tensor) -> tuple[Any, Any]:
        """The samples stacked, as a DataLoader would stack them."""
        if (self.transform is None and self.target_transform is None) or not len(numbers):
            return self._decode(numbers), self._labels(numbers).to(self._device)
        images, labels = default_collate(self.__getitems__(numbers.tolist()))
        return images, labels

    def _labels(self, numbers: Tensor) -> Tensor:
        if self._soft_labels:
            return self.soft_targets(numbers)
        return self._store.labels(numbers)

    @torch.no_grad()
    def _decode(self, numbers: Tensor) -> Tensor:
        numbers = numbers.to(self._device)
        with float32_default:
            if self._fixed:
                return self._store(numbers)
            rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            return self._store.sample_around(numbers, rng)

    def _numbers(self, indices: Indices) -> Tensor:
        """Sample numbers int64 [B] in 0 ... len(self) - 1, on the CPU."""
        size = len(self)
        if isinstance(indices, slice):
            return torch.tensor(range(size)[indices], dtype=torch.int64)
        found = torch.as_tensor(indices).cpu()
        if found.dtype == torch.bool:
            if found.shape != (size,):
                raise IndexError(f"a mask of shape {list(found.shape)} for {size} samples")
            return found.nonzero().flatten()
        if found.is_floating_point() and len(found):
            raise TypeError(f"indices must be integers, got {found.dtype}")
        found = found.to(torch.int64)
        outside = found[(found < -size) | (found >= size)]
        if len(outside):
            raise IndexError(f"index {int(outside[0])} is outside a set of {size} samples")
        return found % size
