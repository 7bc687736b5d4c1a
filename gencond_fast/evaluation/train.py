"""One student: trained from scratch, judged after the last epoch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from gencond_fast.data.augment import augment, draw_augmentation
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.data.waiting import Waiting
from gencond_fast.errors import RunError
from gencond_fast.evaluation.epochs import Epoch
from gencond_fast.evaluation.protocol import Protocol
from gencond_fast.models.classifier import Classifier
from gencond_fast.rng import named_rng
from gencond_fast.runtime import Runtime

_TEST_BATCH = 512


def train_student(
    student: Classifier,
    epoch_of: Epoch,
    *,
    protocol: Protocol,
    epochs: int,
    seed: int,
    runtime: Runtime,
    advance: Callable[[int], None],
) -> None:
    """Trains a student in place.

    Args:
        student: on the device of the runtime.
        epoch_of: the batches of an epoch.
        protocol: optimiser and augmentation.
        epochs: passes over the images.
        seed: of augmentation, and of the order of images that are held.
        runtime: device, precision, compilation.
        advance: called after every epoch.

    Raises:
        RunError: the loss stopped being a finite number.
    """
    optimizer = torch.optim.SGD(
        student.parameters(),
        lr=protocol.rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
    )
    forward = runtime.compile(student.forward)
    student.train()
    loss = torch.zeros(())
    for epoch in range(epochs):
        if epoch == epochs // 2 + 1:
            for group in optimizer.param_groups:
                group["lr"] = protocol.rate / 10
        rng = named_rng(seed, "epoch", epoch)
        for images, labels in epoch_of(epoch, rng):
            names = protocol.augmentation
            operation = names[int(torch.randint(len(names), (), generator=rng))]
            transform = draw_augmentation(
                operation, rng, batch_size=len(images), device=runtime.device
            )
            batch = runtime.arrange(augment(images, transform))
            with runtime.autocast():
                logits = forward(batch)
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        advance(1)
    if not loss.isfinite():
        raise RunError("a student diverged: its loss is not finite in the last epoch")


@torch.no_grad()
def accuracy(
    student: Classifier,
    source: Source,
    image_size: int,
    normalisation: Normalisation,
    runtime: Runtime,
    waiting: Waiting | None = None,
) -> float:
    """Share of the validation images that the student names rightly; streamed.

    Args:
        student: on the device of the runtime.
        source: with a validation split.
        image_size: S.
        normalisation: of the students' input.
        runtime: device, precision, compilation.
        waiting: measures the time until images come.
    """
    assert source.val is not None
    student.eval()
    right = torch.zeros((), dtype=torch.int64, device=runtime.device)
    tested = 0  # fewer than there are where undecodable ones are left out
    batches = stream(
        source.val, channels=source.channels, image_size=image_size, batch_size=_TEST_BATCH
    )
    for batch in (waiting or Waiting()).around(batches):
        with runtime.autocast():
            logits = student(runtime.arrange(normalisation(batch.images.to(runtime.device))))
        right += (logits.argmax(1) == batch.labels.to(runtime.device)).sum()
        tested += len(batch.labels)
    return float(right) / tested
