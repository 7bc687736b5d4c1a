"""Trajectory matching: training on stored samples is to lead where training on real ones led."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.experts import expert_network
from gencond_fast.condensation.flat_weights import FlatWeights
from gencond_fast.condensation.stage import Stage
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import Augmentation, augment, draw_from_policy
from gencond_fast.models.classifier import Classifier, batch_norms
from gencond_fast.store.store import StoredSet
from gencond_fast.system.rng import named_rng
from gencond_fast.system.upload import upload

_WEIGH_EVERY = 2  # steps, which see most samples and are few
_PROBE = 0.5  # h, of the way that is missing


class Trajectory(Stage):
    """Distance of weights after some steps on stored samples to those of an expert (2203.11932).

    From weights a of the trajectory of an expert, N steps of SGD on batches of stored samples lead
    to b, and the expert itself went to e. The loss is |b - e|² / |a - e|².

    Its gradient is taken to first order: each step moves b by its own gradient, and what that does
    to the gradients of later steps is left out. So no step is unrolled: of each one its images and
    the weights before it are held, never what lies inside the network. With v = b - e and rate r,
    the gradient is in the images x of a step at weights w

        -2 r / |a - e|² ∇x (v · ∇w L(w, x)),

    where the derivative along v is the difference (L(w + h v, x) - L(w - h v, x)) / 2h at h = 0.5:
    two compiled backward passes, in the images alone. As the slope of a network of ReLUs jumps, a
    smaller h gives more noise, not less.

    Of several ranks each has the samples of its own classes, and the slopes of each inner step are
    added up. With batch norms, whose statistics are those of all samples together, every rank does
    the whole step.
    """

    name = "trajectory"

    def __init__(
        self, task: Task, store: StoredSet, experts: list[Tensor], partition: ClassPartition
    ) -> None:
        options = task.config.trajectory
        super().__init__(options.steps, options.lr)
        self._task = task
        self._store = store
        self._experts = experts
        self._options = options
        self._decode = task.runtime.compile(store)
        self._network = expert_network(task, 0).train()
        self._weights = FlatWeights(self._network)
        self._loss_of = task.runtime.compile(_loss_of(self._network))
        self._partition = partition
        self._batch = min(options.batch_size, partition.spec.samples)
        self._shared = partition.ranks.world_size > 1 and not batch_norms(self._network)

    @property
    def images_per_step(self) -> int:
        """See `Stage`."""
        return self._options.inner_steps * self._batch

    def start(self) -> None:
        """See `Stage`."""
        self._store.start_price()

    def terms(self, step: int) -> dict[str, Tensor]:
        """See `Stage`."""
        if step % _WEIGH_EVERY == 0:
            self._store.update_price(self._partition.add)
        rng = named_rng(self._task.config.seed, "trajectory", step)
        first, target = self._draw_section(rng)
        index = self._draw_samples(rng)
        weights, passed = self._walk(first, self._inner_steps(index, rng))
        length = (first - target).square().sum()
        missing = weights - target
        scale = -2.0 * self._options.inner_lr / length
        # a number whose gradient in the images is that of the loss
        probe, scale = _PROBE * missing, scale / (2.0 * _PROBE)
        pull = sum((self._pull(each, probe, scale) for each in passed), first.new_zeros(()))
        world = self._partition.ranks.world_size
        pull = pull if self._shared else pull / world
        terms = {"trajectory": missing.square().sum() / (length * world) + (pull - pull.detach())}
        seen = index.flatten()
        own = seen[self._partition.is_own(seen)]
        rows = upload(self._partition.rows(own), first.device)
        if (rate := self._store.rate(rows)) is not None:
            terms["rate"] = rate / len(seen)
        return terms

    def _draw_section(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Weights of an expert, and those that it had `span` parts later: [P] each."""
        options = self._options
        expert = self._experts[int(torch.randint(len(self._experts), (), generator=rng))]
        parts = options.parts_of(len(self._task.source.train))
        start = int(torch.randint(options.max_start_epoch * parts + 1, (), generator=rng))
        return self._weights.order(expert[start]), self._weights.order(expert[start + options.span])

    def _draw_samples(self, rng: torch.Generator) -> Tensor:
        """The samples of each inner step [N, B]: classes in turn, none again before all were."""
        spec, wanted = self._partition.spec, self._options.inner_steps * self._batch
        rounds = []
        for _ in range(-(-wanted // spec.samples)):
            order = torch.rand(spec.num_classes, spec.per_class, generator=rng).argsort(1)
            classes = torch.randperm(spec.num_classes, generator=rng)
            rounds.append((classes[:, None] * spec.per_class + order[classes]).T.flatten())
        return torch.cat(rounds)[:wanted].view(self._options.inner_steps, self._batch)

    def _inner_steps(self, index: Tensor, rng: torch.Generator) -> list[_Inner]:
        """The own part of N steps on samples [N, B]: three copies to the device for all of them."""
        operations, device = self._task.config.networks.augmentation, self._task.runtime.device
        own = self._partition.is_own(index) if self._shared else torch.ones_like(index).bool()
        drawn = [draw_from_policy(operations, rng, batch_size=self._batch) for _ in index]
        counts, samples = own.sum(1).tolist(), index[own]
        rows = upload(self._partition.rows(samples), device).split(counts)
        labels = upload(samples // self._partition.spec.per_class, device).split(counts)
        draws = upload(torch.stack([each.draws for each in drawn])[own], device).split(counts)
        return [
            _Inner(rows, labels, replace(transform, draws=draws))
            for rows, labels, transform, draws in zip(rows, labels, drawn, draws, strict=True)
        ]

    def _walk(self, weights: Tensor, steps: list[_Inner]) -> tuple[Tensor, list[_Passed]]:
        """Where the steps lead, and the own part of each that has one."""
        passed = []
        for step in steps:
            if len(step.rows):
                images = self._images(step.rows, step.transform)
                slope = self._slope(weights, images.detach(), step.labels)
                passed.append(_Passed(images, step.labels, weights))
            else:
                slope = torch.zeros_like(weights)
            if self._shared:
                self._partition.ranks.all_reduce([slope])
            weights = weights - self._options.inner_lr * slope
        return weights, passed

    def _images(self, rows: Tensor, transform: Augmentation) -> Tensor:
        with self._task.runtime.autocast():
            images = self._decode(rows)
        return augment(self._task.normalisation(images.float()), transform)

    def _slope(self, weights: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Of the own part of the loss of a batch in all weights: [P]."""
        loss = self._loss(weights, images, labels)
        return self._weights.flatten(torch.autograd.grad(loss, self._weights.parameters))

    def _image_gradient(self, weights: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Of the own part of the loss of a batch in its images, like them."""
        leaf = images.detach().requires_grad_()
        self._network.requires_grad_(False)  # else a third of the work were for nothing
        try:
            (gradient,) = torch.autograd.grad(self._loss(weights, leaf, labels), leaf)
        finally:
            self._network.requires_grad_(True)
        return gradient

    def _loss(self, weights: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        self._weights.put_in_place(weights)
        with self._task.runtime.autocast():
            return self._loss_of(self._task.runtime.arrange(images), labels, self._batch)

    def _pull(self, step: _Passed, probe: Tensor, scale: Tensor) -> Tensor:
        """The product of the images of an inner step with the gradient of the loss in them."""
        ahead, behind = (
            self._image_gradient(weights, step.images, step.labels)
            for weights in (step.weights + probe, step.weights - probe)
        )
        return (step.images * (scale * (ahead - behind))).sum()


def _loss_of(network: Classifier) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The loss of a part of a batch of some size, all of it to be compiled."""

    def loss(images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
        logits = network(images).float()
        return F.cross_entropy(logits, labels, reduction="sum") / batch_size

    return loss


class _Inner(NamedTuple):
    """What goes into an inner step: rows of the stored set, their labels, their augmentation."""

    rows: Tensor
    labels: Tensor
    transform: Augmentation


class _Passed(NamedTuple):
    """An inner step: its images and labels, and the weights before it."""

    images: Tensor
    labels: Tensor
    weights: Tensor
