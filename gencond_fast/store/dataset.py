"""A condensed file as an ordinary PyTorch dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gencond_fast.errors import InputError
from gencond_fast.store.artifact import load


class CondensedDataset(Dataset[tuple[Tensor, int | Tensor]]):
    """Images float32 [channels, H, W] in [0, 1] and their labels, decoded on demand.

    `sampling="fixed"` is the finite list in the file. `sampling="fresh"` has the same length, but
    each access draws a new sample around the stored one, from PyTorch's global random state.
    With `soft_labels` a label is the probabilities that are stored with the sample (or with the
    one that a new sample is drawn around), float32 [C].

    Args:
        path: condensed file or run directory.
        device: where images are decoded and returned.
        sampling: `fixed` or `fresh`.
        soft_labels: whether labels are probabilities in place of ints.

    Attributes:
        class_names: one name a class.
        mean: of the real training images, one number a channel.
        std: likewise.

    Raises:
        InputError: the file cannot be used, the split is unknown or not in this format, or soft
            labels are asked for and the file has none.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        sampling: Literal["fixed", "fresh"] = "fixed",
        soft_labels: bool = False,
    ) -> None:
        if sampling not in ("fixed", "fresh"):
            raise InputError(f"unknown sampling {sampling!r}: choose fixed or fresh")
        artifact = load(path)
        if sampling == "fresh":  # drawing nothing tells whether the format can
            artifact.store.sample_around(torch.arange(0), torch.Generator())
        if soft_labels:
            artifact.require_soft_labels(path)
        self._store = artifact.store.to(device)
        self._device = torch.device(device)
        self._fixed = sampling == "fixed"
        self._soft_labels = soft_labels
        self.class_names = artifact.metadata.class_names
        self.mean = artifact.metadata.mean
        self.std = artifact.metadata.std

    def __len__(self) -> int:
        return self._store.spec.samples

    @property
    def labels(self) -> Tensor:
        """Classes of all samples, int64 [len(self)], on the CPU."""
        return self._store.labels(torch.arange(len(self)))

    def targets(self, indices: Tensor | list[int]) -> Tensor:
        """Class probabilities of many samples: float32 [B, C], one-hot where labels are hard."""
        return self._store.targets(torch.as_tensor(indices, dtype=torch.int64, device=self._device))

    @torch.no_grad()
    def images(self, indices: Tensor | list[int]) -> Tensor:
        """Decodes many samples at once: float32 [B, channels, H, W] in [0, 1]."""
        index = torch.as_tensor(indices, dtype=torch.int64, device=self._device)
        if self._fixed:
            return self._store(index)
        rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        return self._store.sample_around(index, rng)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside a set of {len(self)} samples")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int | Tensor]]:
        """Serves a whole batch of a DataLoader in one decoding."""
        labels = (
            self.targets(indices)
            if self._soft_labels
            else self._store.labels(torch.as_tensor(indices)).tolist()
        )
        return list(zip(self.images(indices), labels, strict=True))
