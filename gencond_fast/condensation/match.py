"""Matching: generated classes are drawn towards the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gencond_fast.condensation.bank import BankEntry
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.discriminator import Discriminator
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.real_batches import RealBatches, statistics_of
from gencond_fast.condensation.stage import Stage
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import Augmentation, augment
from gencond_fast.discrepancy import Generated, Network, Real, build_discrepancy, required
from gencond_fast.functional.layout import ClassLayout
from gencond_fast.functional.losses import (
    ClassLosses,
    class_losses,
    inter_class_loss,
    intra_class_loss,
    option_of,
)
from gencond_fast.functional.moments import class_moments
from gencond_fast.store.store import StoredSet
from gencond_fast.system.rng import named_rng
from gencond_fast.system.upload import upload

_WEIGH_EVERY = 10  # steps


class Match(Stage):
    """Discrepancies + intra-class + inter-class loss (+ others) under a random network.

    All chosen classes go through one batch. Each step draws a network, one of its augmentations,
    the classes (all, or `class_batch` of them) and the stored samples of each class.

    Of several ranks, which all draw the same, each has its own classes: it decodes their samples
    and puts them through the network. Centres of classes alone are told to the others.
    Batch statistics are those of all classes together, so that where a discrepancy asks for them
    every rank does the whole step.
    """

    name = "match"

    def __init__(
        self,
        task: Task,
        store: StoredSet,
        networks: FeatureNetworks,
        bank: list[BankEntry],
        steps: int,
        partition: ClassPartition,
    ) -> None:
        options = task.config.training
        super().__init__(steps, options.match_lr)
        self._task = task
        self._networks = networks
        self._bank = bank
        self._store = store
        self._per_class = partition.spec.per_class
        self._classes = partition.drawn
        self._decode = task.runtime.compile(store)
        self._each = min(options.batch_per_class or self._per_class, self._per_class)
        self._at_once = options.micro_batch or self.images_per_step
        self._needed = required(task.config.losses.discrepancies)
        self._partition = partition
        whole = any(each.needs_batchnorm for each in self._needed)
        self._own = slice(0, self._classes) if whole else self._partition.part
        own = self._own.stop - self._own.start
        self._share = own / self._classes
        self._repeated = self._partition.ranks.world_size if whole else 1
        self._layout = ClassLayout.from_counts([self._each] * own, device=task.runtime.device)
        self._adversary = (
            Discriminator(task, partition.ranks) if task.config.losses.adversarial else None
        )
        self._batches = self._real_batches()
        self._discrepancies = [
            (name, weight, build_discrepancy(name))
            for name, weight in task.config.losses.discrepancies.items()
            if weight != 0.0
        ]

    @property
    def images_per_step(self) -> int:
        """See `Stage`."""
        return self._classes * self._each

    def state_dict(self) -> dict[str, Any]:
        """See `Stage`."""
        return self._adversary.state_dict() if self._adversary else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Stage`."""
        if self._adversary:
            self._adversary.load_state_dict(state)

    def start(self) -> None:
        """See `Stage`."""
        self._store.start_price()

    def terms(self, step: int) -> dict[str, Tensor]:
        """See `Stage`."""
        if step % _WEIGH_EVERY == 0:
            self._store.update_price(self._partition.add)
        device = self._task.runtime.device
        rng = named_rng(self._task.config.seed, "match", step)
        network = int(torch.randint(len(self._bank), (), generator=rng))
        entry = self._bank[network]
        transform = int(torch.randint(len(entry.augmentations), (), generator=rng))
        classes, samples = self._draw(rng)
        index = upload(self._partition.rows(samples[self._own].flatten()), device)
        outputs = upload(classes[self._own], device)
        features, normed, images = self._observe(network, index, entry.augmentations[transform])
        labels = torch.arange(len(outputs), device=device).repeat_interleave(self._each)
        scaled = entry.scaled(features, transform)
        moments = class_moments(scaled, labels, len(outputs))
        generated = Generated(scaled, labels, moments, self._per_class, self._each, images, normed)
        real = self._real(entry, transform, classes, outputs, rng)
        trained = self._networks.plans[network].trained
        terms = self._discrepancy_terms(generated, real, trained)
        terms |= self._diversity_terms(scaled - entry.centre[transform])
        if self._adversary and images is not None and real.images is not None:
            part = self._share / self._repeated
            self._adversary.learn(real.images, images, outputs, part)
            weight = self._share * self._task.config.losses.adversarial
            terms["adversarial"] = weight * self._adversary.loss(images, outputs)
        weight = self._share * self._task.config.losses.cross_entropy
        if weight != 0.0 and trained:
            logits = self._networks.logits(features)
            terms["cross_entropy"] = weight * F.cross_entropy(logits, outputs[labels])
        if (rate := self._rate(index)) is not None:
            terms["rate"] = rate / self.images_per_step
        if self._repeated == 1:
            return terms
        return {name: term / self._repeated for name, term in terms.items()}

    def _observe(
        self, network: int, index: Tensor, augmentation: Augmentation
    ) -> tuple[Tensor, Sequence[Tensor], Tensor | None]:
        """Features of samples under a network, what went into batch norms, and the images.

        With micro-batches the features alone. Nothing else of a micro-batch is kept, and the
        backward pass makes it again (1604.06174).
        """
        if self._at_once >= len(index):
            images = self._images(index, augmentation)
            self._networks.select(network)
            return *self._networks.observe(images), images

        self._networks.select(network)

        def features(part: Tensor) -> Tensor:
            return self._networks.observe(self._images(part, augmentation))[0]

        parts = [
            checkpoint(features, part, use_reentrant=False, preserve_rng_state=False)
            for part in index.split(self._at_once)
        ]
        return torch.cat(parts), (), None

    def _rate(self, index: Tensor) -> Tensor | None:
        """See `StoredSet.rate`. Nothing of a micro-batch is kept."""
        if self._at_once >= len(index):
            return self._store.rate(index)
        parts = [
            checkpoint(self._store.rate, part, use_reentrant=False, preserve_rng_state=False)
            for part in index.split(self._at_once)
        ]
        return None if parts[0] is None else torch.stack(parts).sum()

    def _images(self, index: Tensor, augmentation: Augmentation) -> Tensor:
        with self._task.runtime.autocast():
            images = self._decode(index)
        return augment(self._task.normalisation(images.float()), augmentation)

    def _real_batches(self) -> RealBatches | None:
        """Where the step's real samples come from, if it needs any."""
        options = self._task.config
        per_class = options.networks.real_batch
        if self._draws_images or any(each.needs_samples for each in self._needed):
            per_class = per_class or options.networks.sample_batch
        return RealBatches(self._task, self._networks, per_class) if per_class else None

    @property
    def _draws_images(self) -> bool:
        return bool(self._adversary) or any(each.needs_images for each in self._needed)

    def _real(
        self,
        entry: BankEntry,
        transform: int,
        classes: Tensor,
        outputs: Tensor,
        rng: torch.Generator,
    ) -> Real:
        """The real side of a step: looked up, drawn, or both; `outputs` are the own classes."""
        real = entry.real(transform, outputs)
        live = self._task.config.networks.real_batch is not None
        if self._batches and (live or any(each.needs_samples for each in self._needed)):
            samples = self._batches.samples(entry, transform, classes, self._own, rng)
            real = replace(statistics_of(samples, entry) if live else real, samples=samples)
        if self._batches and self._draws_images:
            images = self._batches.images(entry, transform, classes, self._own, rng)
            real = replace(real, images=images)
        network = Network(self._networks.classifier, outputs, entry.scale)
        return replace(real, network=network)

    def _draw(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Classes [C'] and the indices [C', n] of their samples."""
        classes = self._partition.draw(rng)
        order = torch.rand(self._classes, self._per_class, generator=rng).argsort(1)
        return classes, classes[:, None] * self._per_class + order[:, : self._each]

    def _discrepancy_terms(
        self, generated: Generated, real: Real, trained: bool
    ) -> dict[str, Tensor]:
        terms = {}
        for name, weight, discrepancy in self._discrepancies:
            if discrepancy.needs_trained and not trained:
                continue
            discrepancy.prepare(real)
            terms[name] = weight * discrepancy.loss(generated) / self._classes
        return terms

    def _diversity_terms(self, features: Tensor) -> dict[str, Tensor]:
        options = self._task.config.losses
        weights = {"intra": options.intra, "inter": options.inter}
        if not any(weights.values()):
            return {}
        divided = self._share < 1
        losses = self._part_of_losses(features) if divided else self._losses(features)
        return {
            name: weight * getattr(losses, name) for name, weight in weights.items() if weight != 0
        }

    def _losses(self, features: Tensor) -> ClassLosses:
        options = self._task.config.losses
        return class_losses(
            features,
            self._layout,
            intra_kind=options.intra_kind,
            inter_kind=options.inter_kind,
            **self._numbers_of(options.intra_kind, options.inter_kind),
        )

    def _part_of_losses(self, features: Tensor) -> ClassLosses:
        """What the own classes add to the losses of all; every rank has all centres."""
        options = self._task.config.losses
        intra = intra_class_loss(
            features,
            self._layout,
            kind=options.intra_kind,
            **self._numbers_of(options.intra_kind),
        )
        centres = self._all_centres(features.view(-1, self._each, features.shape[1]).mean(1))
        alone = torch.arange(self._classes, device=features.device)
        inter = inter_class_loss(
            centres, alone, kind=options.inter_kind, **self._numbers_of(options.inter_kind)
        )
        # the whole loss, hence its whole gradient in the own centres, and a share of its value
        inter = inter - (1.0 - self._share) * inter.detach()
        return ClassLosses(self._share * intra, inter)

    def _numbers_of(self, *kinds: str) -> dict[str, Any]:
        """The temperature and the margin, as far as losses of these kinds take them."""
        options, taken = self._task.config.losses, {option_of(kind) for kind in kinds}
        numbers = {"temperature": options.temperature, "margin": options.margin}
        return {name: value for name, value in numbers.items() if name in taken}

    def _all_centres(self, own: Tensor) -> Tensor:
        """Centres [C', D] of all classes of the step, of which the own ones have a gradient."""
        table = own.new_zeros(self._classes, own.shape[1])
        table[self._own] = own.detach()
        self._partition.ranks.all_reduce([table])
        return torch.cat((table[: self._own.start], own, table[self._own.stop :]))
