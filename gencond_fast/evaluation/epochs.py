"""What a student sees in an epoch: images that are held, or streamed from the data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.data.training import training_batches
from gencond_fast.data.waiting import Waiting
from gencond_fast.evaluation.protocol import Protocol

Epoch = Callable[[int, torch.Generator], Iterator[tuple[Tensor, Tensor]]]
"""Gives an epoch, by its number and with the generator of its augmentation, as batches: normalised
images [B, channels, S, S] and their labels int64 [B], both on the device of the student.
"""


def held(images_of: Callable[[int], Tensor], labels: Tensor, protocol: Protocol) -> Epoch:
    """Shuffles images that are there all at once.

    Args:
        images_of: the normalised images [n, channels, S, S] of an epoch.
        labels: int64 [n], on the same device.
        protocol: its batch size.
    """

    def epoch(number: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        images = images_of(number)
        order = torch.randperm(len(labels), generator=rng).to(labels.device)
        for index in order.split(protocol.batch_size):
            yield images[index], labels[index]

    return epoch


def streamed(
    source: Source,
    image_size: int,
    normalisation: Normalisation,
    protocol: Protocol,
    *,
    seed: int,
    device: torch.device,
    tell: Callable[[int], None],
    waiting: Waiting,
) -> Epoch:
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

    def epoch(number: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        batches = training_batches(
            source.train,
            channels=source.channels,
            image_size=image_size,
            batch_size=protocol.batch_size,
            seed=seed,
            epoch=number,
        )
        for batch in waiting.around(batches):
            yield normalisation(batch.images.to(device)), batch.labels.to(device)
            tell(batch.done)
        tell(0)

    return epoch
