"""Real images measured in every step.

Statistics from a fresh batch, as DM takes them, are what the bank replaces: the same quantities,
noisier and dearer. They stay as an option so that the difference in time and accuracy can be
measured. Discrepancies between samples have no table and always need a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.condensation.bank import BankEntry
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import augment
from gencond_fast.discrepancy import Real, RealImages, RealSamples
from gencond_fast.discrepancy.stack import labels_of
from gencond_fast.functional.characteristic import Characteristic, waves
from gencond_fast.functional.moments import class_moments
from gencond_fast.system.upload import upload

_BATCH = 512  # bounds the memory of activations


class RealBatches:
    """Draws real images of the classes of a step and measures them under its network.

    The images come from the sample in memory, so decoding is not part of the rate.

    Args:
        task: the data and the machine.
        networks: the feature networks; the one of the step must be in place.
        per_class: images of a class, or all that are in memory.
    """

    def __init__(self, task: Task, networks: FeatureNetworks, per_class: int) -> None:
        self._task = task
        self._networks = networks
        self._per_class = per_class
        self._counts = torch.bincount(task.sample.labels, minlength=task.num_classes)
        self._first = self._counts.cumsum(0) - self._counts

    def samples(
        self, entry: BankEntry, augmentation: int, classes: Tensor, own: slice, rng: torch.Generator
    ) -> RealSamples:
        """Scaled features of fresh images of each class.

        Args:
            entry: of the network in place: its augmentations and scale.
            augmentation: which of them the images get.
            classes: [C'] int64 on the CPU, of the step.
            own: those of them that are wanted; what is drawn for them hangs on all.
            rng: draws the images.
        """
        rows, counts = self._draw(classes, own, rng)
        features = self._features(entry, augmentation, rows) / entry.scale
        return RealSamples(features, counts, rng)

    def images(
        self, entry: BankEntry, augmentation: int, classes: Tensor, own: slice, rng: torch.Generator
    ) -> RealImages:
        """Fresh images of each class, normalised and augmented; arguments as of `samples`."""
        rows, counts = self._draw(classes, own, rng)
        return RealImages(self._prepared(entry, augmentation, rows), counts)

    def _draw(
        self, classes: Tensor, own: slice, rng: torch.Generator
    ) -> tuple[Tensor, tuple[int, ...]]:
        """Rows of the sample, without repetition, class after class, and how many of each."""
        most = int(self._counts[classes].max())
        order = torch.rand(len(classes), most, generator=rng)[own]
        counts = self._counts[classes[own]].unsqueeze(1)
        order[torch.arange(most) >= counts] = 2.0  # behind all that are there
        place = order.argsort(1)[:, : self._per_class]
        labels, column = torch.nonzero(place < counts, as_tuple=True)
        drawn = torch.bincount(labels, minlength=len(counts)).tolist()
        return self._first[classes[own]][labels] + place[labels, column], tuple(drawn)

    @torch.no_grad()
    def _features(self, entry: BankEntry, augmentation: int, rows: Tensor) -> Tensor:
        parts = [
            self._networks.features(self._prepared(entry, augmentation, part))
            for part in rows.split(_BATCH)
        ]
        return torch.cat(parts)

    def _prepared(self, entry: BankEntry, augmentation: int, rows: Tensor) -> Tensor:
        images = upload(self._task.sample.images[rows], self._task.runtime.device)
        return augment(self._task.normalisation(images), entry.augmentations[augmentation])


def statistics_of(samples: RealSamples, entry: BankEntry) -> Real:
    """What the bank would know, of a few samples: moments, and waves where the bank has them."""
    labels = labels_of(samples.counts, samples.features.device)
    moments = class_moments(samples.features, labels, len(samples.counts))
    if entry.waves is None:
        return Real(moments)
    frequencies = entry.waves.frequencies
    values = class_moments(waves(samples.features, frequencies), labels, len(samples.counts)).mean
    return Real(moments, Characteristic(frequencies, *values.chunk(2, 1)))
