"""What a student sees in an epoch: images that are held, or streamed from the data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
from torch import Tensor

from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.data.training import training_batches
from gencond_fast.system.upload import upload
from gencond_fast.training.protocol import Protocol

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Epochs:
    """Passes over a training set.

    Attributes:
        steps: batches of an epoch, at most.
        held: whether there are always as many, of images that are in memory.
        batches: gives an epoch, by its number and with the generator of its augmentation, as
            batches: normalised images [B, channels, S, S] and their targets, labels int64 [B] or
            probabilities float32 [B, C], all on the device of the student.
    """

    steps: int
    held: bool
    batches: Callable[[int, torch.Generator], Batches]


class Images(Interface):
    """Normalised images: a tensor [n, channels, S, S], or what makes those that are asked for."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Those at some rows: [B, channels, S, S], of int64 [B]."""


def held(images_of: Callable[[int], Images], targets: Tensor, protocol: Protocol) -> Epochs:
    """Shuffles images that are there all at once, or can be had in any order.

    Args:
        images_of: the images of an epoch, n of them.
        targets: int64 [n] or float32 [n, C], on the same device.
        protocol: its batch size.
    """

    def epoch(number: int, rng: torch.Generator) -> Batches:
        images = images_of(number)
        order = upload(torch.randperm(len(targets), generator=rng), targets.device)
        for index in order.split(protocol.batch_size):
            yield images[index], targets[index]

    return Epochs(math.ceil(len(targets) / protocol.batch_size), True, epoch)


def streamed(
    source: Source,
    image_size: int,
    normalisation: Normalisation,
    protocol: Protocol,
    *,
    seed: int,
    device: torch.device,
    tell: Callable[[int], None],
    waiting: DataTimer,
) -> Epochs:
    """Shuffles the whole training split, of which a few batches are held at any time.

    Args:
        source: what its training split is taken of.
        image_size: S.
        normalisation: of the students' input.
        protocol: its batch size.
        seed: of the order.
        device: of the student.
        tell: called after every step with the images of the epoch that are behind it, and with 0
            at its end.
        waiting: measures the time until images come.
    """

    def epoch(number: int, rng: torch.Generator) -> Batches:
        batches = training_batches(
            source.train,
            channels=source.channels,
            image_size=image_size,
            batch_size=protocol.batch_size,
            seed=seed,
            epoch=number,
        )
        for batch in waiting.around(batches):
            yield normalisation(upload(batch.images, device)), upload(batch.labels, device)
            tell(batch.done)
        tell(0)

    return Epochs(math.ceil(len(source.train) / protocol.batch_size), False, epoch)
