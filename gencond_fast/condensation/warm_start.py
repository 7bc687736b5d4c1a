"""Warm start: the stored set is first fitted to chosen real images, as an auto-decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.selection import choose_targets
from gencond_fast.condensation.stage import Stage
from gencond_fast.condensation.task import Task
from gencond_fast.store.store import StoredSet
from gencond_fast.system.rng import named_rng
from gencond_fast.system.upload import upload


class WarmStart(Stage):
    """Mean squared error, in normalised pixels, between each stored sample and its real image.

    A class with fewer real images than stored samples uses some of them again, moved.
    """

    name = "warm start"

    def __init__(
        self, task: Task, store: StoredSet, rows: Tensor, steps: int, partition: ClassPartition
    ) -> None:
        options = task.config.training
        super().__init__(steps, options.warm_lr)
        self._task = task
        self._decode = task.runtime.compile(store)
        self._samples = partition.spec.samples
        self._batch = min(options.warm_batch_size, self._samples)
        self._partition = partition
        images = choose_targets(
            task.sample.images, task.sample.labels, partition.spec.per_class, rows
        )
        self._targets = partition.cut(images).to(task.runtime.device)

    @property
    def images_per_step(self) -> int:
        """See `Stage`."""
        return self._batch

    def terms(self, step: int) -> dict[str, Tensor]:
        """See `Stage`. The samples take turns: each is seen once in a round.

        Of several ranks each has the samples of its own classes.
        """
        rng = named_rng(self._task.config.seed, "warm start", step * self._batch // self._samples)
        order = torch.randperm(self._samples, generator=rng)
        place = torch.arange(step * self._batch, (step + 1) * self._batch) % self._samples
        samples = order[place]
        own = self._partition.rows(samples[self._partition.is_own(samples)])
        index = upload(own, self._targets.device)
        real = self._task.normalisation(self._targets[index])
        with self._task.runtime.autocast():
            images = self._decode(index)
        away = self._task.normalisation(images.float()) - real
        return {"pixel": away.square().sum() / (self._batch * self._targets[0].numel())}
