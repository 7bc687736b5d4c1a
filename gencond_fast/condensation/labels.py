"""Soft labels of stored samples: what teachers make of them, under a few augmentations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import Augmentation, augment, draw_augmentation
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet
from gencond_fast.store.stores import build_store
from gencond_fast.system.rng import named_rng

_BATCH = 128

Teacher = Callable[[Tensor], Tensor]
"""Gives logits float32 [B, C] of normalised images [B, channels, S, S]."""


def pool_teachers(networks: FeatureNetworks) -> list[Teacher]:
    """Those of the feature networks that are trained."""

    def logits(index: int, images: Tensor) -> Tensor:
        networks.select(index)
        return networks.logits(networks.features(images))

    trained = [index for index, plan in enumerate(networks.plans) if plan.trained]
    return [partial(logits, index) for index in trained]


@torch.no_grad()
def with_soft_labels(
    task: Task, store: StoredSet, spec: StoreSpec, teachers: list[Teacher]
) -> StoredSet:
    """The images of a stored set, as its file has them, with the labels that teachers give them.

    The label of a sample is (1 - h) * soft + h * one-hot, with h = `labels.hard_label_weight` and
    `soft` the mean of softmax(logits / `labels.temperature`) over teachers and over
    `labels.num_augmentations` augmentations that are the same for all samples, the first one the
    identity (relabelling of SRe2L, 2306.13092, its random crops replaced by DSA's operations).

    Args:
        task: options, normalisation, machine.
        store: decodes the images.
        spec: of the result: that of `store` but for `soft_labels`, which is above 0, and
            `label_bytes`, the room for them where they are to be as fine as it allows.
        teachers: one or more.

    Returns:
        A new stored set on the device of the task, rounded as it is stored. Its description says
        how many bytes labels take if they are coded.
    """
    options, device = task.config.labels, task.runtime.device
    made = build_store(spec)
    made.load_images({name: value.cpu() for name, value in store.images_to_storage().items()})
    made.to(device).eval()
    transforms = _draw_augmentations(task)
    batches = _full_batches(spec.samples)
    with task.reporter.phase("soft labels", len(batches)) as progress:
        for batch in batches:
            index = batch.to(device)
            images = task.normalisation(made(index))
            soft = _mean_probabilities(images, teachers, transforms, options.temperature)
            hard = F.one_hot(made.labels(index), spec.num_classes).float()
            made.soft_labels.keep(index, torch.lerp(soft, hard, options.hard_label_weight))
            progress.advance(1)
    made.compress_labels()
    task.reporter.message(made.soft_labels.describe())
    return made


def _mean_probabilities(
    images: Tensor, teachers: list[Teacher], transforms: list[Augmentation], temperature: float
) -> Tensor:
    """Means over teachers and augmentations: float32 [B, C]."""
    total = torch.zeros((), device=images.device)
    for teacher in teachers:
        for transform in transforms:
            total = total + (teacher(augment(images, transform)) / temperature).softmax(1)
    return total / (len(teachers) * len(transforms))


def _draw_augmentations(task: Task) -> list[Augmentation]:
    """The identity, then the operations of the policy in turn."""
    operations = task.config.networks.augmentation
    draws = [Augmentation("identity", torch.zeros(1, 3, device=task.runtime.device))]
    for place in range(task.config.labels.num_augmentations - 1):
        rng = named_rng(task.config.seed, "soft labels", place)
        operation = operations[place % len(operations)]
        draws.append(draw_augmentation(operation, rng, device=task.runtime.device))
    return draws


def _full_batches(samples: int) -> tuple[Tensor, ...]:
    """Indices of all samples in batches of one size, so that networks are compiled once.

    The last batch is filled up with the first samples.
    """
    size = min(_BATCH, samples)
    return (torch.arange(size * math.ceil(samples / size)) % samples).split(size)
