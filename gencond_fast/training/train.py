"""One student: trained from scratch, judged after the last epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.models.classifier import Classifier
from gencond_fast.system.runtime import Runtime
from gencond_fast.system.upload import upload
from gencond_fast.training.ensemble import train_together
from gencond_fast.training.epochs import Epochs
from gencond_fast.training.mixed import LabelViews
from gencond_fast.training.protocol import Protocol
from gencond_fast.training.trainer import Trainer

TEST_BATCH = 512  # images that a student is tested on at a time


def train_student(
    student: Classifier,
    data: Epochs,
    *,
    protocol: Protocol,
    epochs: int,
    seed: int,
    runtime: Runtime,
    advance: Callable[[int], None],
    label_views: LabelViews | None = None,
) -> int:
    """Trains a student in place and returns the number of its optimiser steps.

    Args:
        student: on the device of the runtime.
        data: what it sees.
        protocol: optimiser, augmentation, mixing, averaging.
        epochs: passes over the images.
        seed: of augmentation and mixing, and of the order of images that are held.
        runtime: device, precision, compilation.
        advance: called after every epoch.
        label_views: labels what the student sees, in place of the targets.

    Raises:
        RunError: the loss stopped being a finite number.
    """
    trainer = Trainer(
        student,
        data,
        protocol=protocol,
        epochs=epochs,
        seed=seed,
        runtime=runtime,
        label_views=label_views,
    )
    steps = 0
    for epoch in range(epochs):
        steps += trainer.run_epoch(epoch)
        advance(1)
    trainer.check("a student")
    trainer.finish()
    return steps


def train_students(
    students: Sequence[Classifier],
    data: Sequence[Epochs],
    *,
    seeds: Sequence[int],
    **shared: Any,
) -> int:
    """Trains students of one architecture in place: at once if their images are held.

    Args and Raises as `train_student`, of each; returns the optimiser steps of the last one.
    """
    if len(students) > 1 and all(each.held for each in data):
        return train_together(students, data, seeds=seeds, **shared)
    steps = 0
    for student, epochs, seed in zip(students, data, seeds, strict=True):
        steps = train_student(student, epochs, seed=seed, **shared)
    return steps


@torch.no_grad()
def accuracy(
    student: Callable[[Tensor], Tensor],
    source: Source,
    image_size: int,
    normalisation: Normalisation,
    runtime: Runtime,
    waiting: DataTimer | None = None,
) -> float:
    """Share of the validation images that the student names rightly; streamed.

    Args:
        student: a network on the device of the runtime, or what else gives scores of classes.
        source: with a validation split.
        image_size: S.
        normalisation: of the students' input.
        runtime: device, precision, compilation.
        waiting: measures the time until images come.
    """
    assert source.val is not None
    if isinstance(student, nn.Module):
        student.eval()
    right = torch.zeros((), dtype=torch.int64, device=runtime.device)
    tested = 0  # fewer than there are where undecodable ones are left out
    batches = stream(
        source.val, channels=source.channels, image_size=image_size, batch_size=TEST_BATCH
    )
    for batch in (waiting or DataTimer()).around(batches):
        with runtime.autocast():
            logits = student(runtime.arrange(normalisation(upload(batch.images, runtime.device))))
        right += (logits.argmax(1) == upload(batch.labels, runtime.device)).sum()
        tested += len(batch.labels)
    return float(right) / tested
