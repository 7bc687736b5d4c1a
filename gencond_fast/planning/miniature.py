"""The same condensation with few steps and few images, and where it must be with fewer classes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gencond_fast.condensation.run import sized_metadata
from gencond_fast.condensation.task import Setting
from gencond_fast.condensation.whole_split import BATCH
from gencond_fast.config import Config, StoreConfig, TrainingConfig, TrajectoryConfig
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.discrepancy import required
from gencond_fast.planning.counts import Counts, stage_steps
from gencond_fast.store.budget import ipc_to_bytes
from gencond_fast.store.spec import StoreSpec

WARM_STEPS = 13  # the first one compiles
MATCH_STEPS = 21  # the others are two rounds of weighing
TRAJECTORY_STEPS = 5
_TRAIN_STEPS = 16
_IMAGES = 3 * 256 + 128  # whole batches of the statistics and a part of one
_SLACK = 8192  # bytes for a longer header, as far as they are needed
_BLANK = 0.1234
_ACTIVATIONS = 3000  # bytes for each pixel of a generated image, as a ConvNet of width 128 has them
_SHARE = 0.25  # of the memory that is left
_FEWEST = 4  # classes; there is a miniature of half of them


def choose_classes(counts: Counts, memory: int) -> int:
    """How many classes the miniature may have: all, or so few that it fits into the memory."""
    pixels = counts.image_bytes / 3 if counts.image_bytes % 3 == 0 else counts.image_bytes
    held = (16 * counts.parameters + 2 * counts.table_bytes) / counts.classes
    classes = counts.classes
    per_class = counts.step_images / counts.step_classes * pixels * _ACTIVATIONS
    while classes > _FEWEST and (
        classes * held + min(classes, counts.step_classes) * per_class > _SHARE * memory
    ):
        classes = math.ceil(classes / 2)
    return classes


def shrink(setting: Setting, spec: StoreSpec, classes: int, out: str) -> tuple[Config, Source]:
    """Options and data of the miniature, which has the same stored samples of each class."""
    config, share = setting.config, classes / spec.num_classes
    each = max(math.ceil(_IMAGES / classes), _drawn_each_step(config))
    part = _part(setting.source, classes, each, config.seed)
    networks = replace(
        config.networks,
        train_steps=min(config.networks.train_steps, _TRAIN_STEPS),
        train_images=min(config.networks.train_images, each),
        real_per_class=math.ceil(_IMAGES / classes),
    )
    small = replace(
        config,
        out=out,
        ipc=None,
        bytes=budget_of(config, setting.source, setting.image_size, classes) + _SLACK,
        classes=None,
        val_fraction=None,
        image_size=setting.image_size,
        in_memory="on",
        store=_store(config.store, spec),
        networks=networks,
        training=_training(setting),
        trajectory=_trajectory(config.trajectory, len(part.train)),
        teachers=replace(config.teachers, count=min(config.teachers.count, 2), epochs=2),
    )
    made = sized_metadata(small, part, setting.image_size, blank(part)).store
    more = made.stream_bytes - math.ceil(spec.stream_bytes * share)
    return replace(small, bytes=(small.bytes or 0) - more), part


def blank(source: Source) -> Normalisation:
    """As many numbers, of as many digits, as the normalisation of real images has."""
    return Normalisation((_BLANK,) * source.channels, (_BLANK,) * source.channels)


def budget_of(config: Config, source: Source, image_size: int, classes: int) -> int:
    """Bytes that fall to so many of the classes of a data set."""
    total = len(source.class_names)
    budget = config.bytes or ipc_to_bytes(config.ipc or 1, total, source.channels, image_size)
    return math.ceil(budget * classes / total)


def _drawn_each_step(config: Config) -> int:
    """Real images of a class that a matching step draws."""
    networks = config.networks
    needed = required(config.losses.discrepancies)
    drawn = any(each.needs_samples or each.needs_images for each in needed)
    if networks.real_batch or drawn or config.losses.adversarial:
        return networks.real_batch or networks.sample_batch
    return 0


def _part(source: Source, classes: int, each: int, seed: int) -> Source:
    """So many training images of each of the first classes, and all of their test images."""
    if classes < len(source.class_names) and source.val is not None:
        rows = np.flatnonzero(source.val.labels < classes)
        source = replace(source, val=source.val.subset(rows, _unheard))
    labels = source.train.labels
    rows = np.flatnonzero((shuffled_rank(labels, seed) < each) & (labels < classes))
    part = source.subset(rows, _unheard)
    names, titles = source.class_names[:classes], source.titles[:classes]
    return replace(part, class_names=names, titles=titles)


def _unheard(line: str) -> None:
    pass


def _store(options: StoreConfig, spec: StoreSpec) -> StoreConfig:
    """All sizes of the stored set, so that none is left to be chosen."""
    sizes: dict[str, dict[str, Any]] = {
        "dct": {"coefficients": spec.coefficients},
        "pixels": {"code_size": spec.code_size, "factor": None},
        "generator": {
            "width": spec.width,
            "code_channels": spec.code_channels,
            "code_size": spec.code_size,
        },
    }
    return replace(options, per_class=spec.per_class, **sizes[spec.format])


def _training(setting: Setting) -> TrainingConfig:
    warm, match = stage_steps(setting)
    warm, match = min(warm, WARM_STEPS), min(match, MATCH_STEPS)
    if warm + match == 0:  # a warm start that is left out, and nothing else
        warm, match = 1, 0
    return replace(
        setting.config.training,
        steps=warm + match,
        warm_start=warm / (warm + match),
        log_every=1,
        checkpoint_every=warm + match,
    )


def _trajectory(options: TrajectoryConfig, images: int) -> TrajectoryConfig:
    if not options.steps:
        return options
    parts = min(options.parts, math.ceil(images / BATCH))
    return replace(
        options,
        steps=min(options.steps, TRAJECTORY_STEPS),
        experts=min(options.experts, 2),
        epochs=2,
        max_start_epoch=1,
        parts=parts,
        span=min(options.span, parts),
    )
