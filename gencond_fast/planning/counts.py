"""What a condensation does how often, and what it holds: everything that its cost grows with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from gencond_fast.condensation.bank import keep_images
from gencond_fast.condensation.measure import chosen_images
from gencond_fast.condensation.networks import plan_networks
from gencond_fast.condensation.shards import owned_parameters
from gencond_fast.condensation.sharing import classes_of_step
from gencond_fast.condensation.task import Setting
from gencond_fast.condensation.whole_split import BATCH
from gencond_fast.config.steps import matching_steps
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.image_cache import CachePolicy
from gencond_fast.data.sample import sample_rows
from gencond_fast.discrepancy import required
from gencond_fast.models.classifier import batch_norms
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store

_LABEL_BATCH = 128
_POOLS = 2 * 256 * 1024**2  # bytes that shuffled stretches of a file are read into at most


@dataclass(frozen=True)
class Counts:
    """Of one condensation.

    Attributes:
        classes: C.
        images: of the training split.
        image_bytes: of one as pixels, at the side that everything works at.
        encoded: whether images have to be decoded.
        sampled: images held in memory from the start.
        measured: images behind the statistics.
        kept: of the sample, decoded once and held until they are measured.
        whole_kept: images held while networks are trained on all of them; 0 where they are
            decoded in every epoch.
        whole_pools: bytes of their file that are held meanwhile.
        networks: feature networks.
        train_steps: of each one that is trained.
        table_bytes: statistics of all networks.
        warm_steps: of the warm start, with `warm_batch` samples each.
        match_steps: of the matching, with `step_classes` classes and `step_images` samples each.
        whole_steps: whether every rank does the whole of a matching step.
        centre_bytes: centres of the classes of a step, which ranks exchange.
        trajectory_steps: with `trajectory_batch` samples in each of `inner_steps`.
        whole_trajectory: whether every rank does the whole of a trajectory step.
        experts: networks trained on all images for trajectories, each for `expert_epochs`.
        expert_bytes: weights of all of them that are held.
        weight_bytes: of one network.
        teachers: networks trained on all images for soft labels, each for `teacher_epochs`.
        label_batches: batches of stored samples that get soft labels.
        samples: stored ones of all classes.
        parameters: numbers that the optimisation moves.
        shared: those of them that belong to no class.
        checkpoints: that are written.
    """

    classes: int
    images: int
    image_bytes: int
    encoded: bool
    sampled: int
    measured: int
    kept: int
    whole_kept: int
    whole_pools: int
    networks: int
    train_steps: tuple[int, ...]
    table_bytes: int
    warm_steps: int
    warm_batch: int
    match_steps: int
    step_classes: int
    step_images: int
    whole_steps: bool
    centre_bytes: int
    trajectory_steps: int
    trajectory_batch: int
    inner_steps: int
    whole_trajectory: bool
    experts: int
    expert_epochs: int
    expert_bytes: int
    weight_bytes: int
    teachers: int
    teacher_epochs: int
    label_batches: int
    samples: int
    parameters: int
    shared: int
    checkpoints: int

    @property
    def whole_store(self) -> bool:
        """Whether every rank keeps all of the stored set, not its own classes alone."""
        return self.whole_steps or bool(self.trajectory_steps and self.whole_trajectory)

    @property
    def whole_split(self) -> bool:
        """Whether networks are trained on all images."""
        return bool(self.experts or self.teachers)


def stage_steps(setting: Setting) -> tuple[int, int]:
    """Steps of the warm start and of the matching."""
    config = setting.config
    steps = matching_steps(config, setting.image_size)
    before = round(steps * config.warm_share)
    return 0 if config.starts_real else before, steps - before


def count(setting: Setting, spec: StoreSpec) -> Counts:
    """What a condensation of a setting into a stored set does, with nothing in its cache."""
    config, source = setting.config, setting.source
    training, trajectory = config.training, config.trajectory
    warm_steps, match_steps = stage_steps(setting)
    plans = plan_networks(config.networks)
    each = min(training.batch_per_class or spec.per_class, spec.per_class)
    step_classes = classes_of_step(config, spec.num_classes)
    options = config.networks
    network = setting.classifier(options.model)
    needed = required(config.losses.discrepancies)
    waves = any(discrepancy.needs_characteristic for discrepancy in needed)
    columns = 2 * network.feature_dim + (2 * options.frequencies if waves else 0)
    weights = 4 * sum(each.numel() for each in network.parameters())
    experts = trajectory.experts if trajectory.steps else 0
    states = 1 + trajectory.epochs * trajectory.parts
    taught = spec.soft_labels and config.labels.source == "full_data"
    epochs = max(trajectory.epochs if experts else 0, config.teachers.epochs if taught else 0)
    whole_kept, pools = _whole_split(setting, epochs)
    ends = (warm_steps, warm_steps + match_steps, warm_steps + match_steps + trajectory.steps)
    with torch.device("meta"):
        store = build_store(spec)
    parameters = sum(each.numel() for each in store.parameters())
    owned = sum(each.numel() for each in owned_parameters(store))
    return Counts(
        classes=spec.num_classes,
        images=len(source.train),
        image_bytes=source.channels * setting.image_size**2,
        encoded=source.train.shape is None,
        sampled=len(sample_rows(source, **setting.sample_options)),
        measured=len(chosen_images(setting)) if match_steps else 0,
        kept=_kept(setting) if match_steps else 0,
        whole_kept=whole_kept,
        whole_pools=pools,
        networks=len(plans),
        train_steps=tuple(plan.steps for plan in plans if plan.steps and plan.end is None),
        table_bytes=4 * columns * spec.num_classes * options.num_augmentations * len(plans),
        warm_steps=warm_steps,
        warm_batch=min(training.warm_batch_size, spec.samples),
        match_steps=match_steps,
        step_classes=step_classes,
        step_images=step_classes * each,
        whole_steps=any(discrepancy.needs_batchnorm for discrepancy in needed),
        centre_bytes=4 * step_classes * network.feature_dim,
        trajectory_steps=trajectory.steps,
        trajectory_batch=min(trajectory.batch_size, spec.samples),
        inner_steps=trajectory.inner_steps,
        whole_trajectory=bool(batch_norms(network)),
        experts=experts,
        expert_epochs=trajectory.epochs,
        expert_bytes=experts * states * weights,
        weight_bytes=weights,
        teachers=config.teachers.count if taught else 0,
        teacher_epochs=config.teachers.epochs,
        label_batches=math.ceil(spec.samples / _LABEL_BATCH) if spec.soft_labels else 0,
        samples=spec.samples,
        parameters=parameters,
        shared=parameters - owned,
        checkpoints=_checkpoints(ends, training.checkpoint_every),
    )


def steps_of_epoch(counts: Counts) -> int:
    """Of a network that is trained on all images."""
    return math.ceil(counts.images / BATCH)


def _checkpoints(ends: tuple[int, ...], every: int) -> int:
    """At the end of each stage that has steps, and every so many steps."""
    return len({*ends, *range(every, ends[-1] + 1, every)} - {0})


def _kept(setting: Setting) -> int:
    train = setting.source.train
    keep_images(setting)
    kept, train.kept = train.kept, None
    return 0 if kept is None else len(kept)


def _whole_split(setting: Setting, epochs: int) -> tuple[int, int]:
    """Images and bytes of their file that are held while networks are trained on all images."""
    train = setting.source.train
    if epochs == 0:
        return 0, 0
    if epochs > 1:
        keeping = CachePolicy(setting.config.in_memory, lambda line: None)
        form = Form(setting.source.channels, setting.image_size)
        keeping.keep(train, form, np.arange(len(train)), "training images")
    kept, train.kept = train.kept, None
    pools = min(_POOLS, len(train) * (train.serial_bytes or 0))
    return 0 if kept is None else len(kept), pools
