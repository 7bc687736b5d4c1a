"""How often a condensation does each thing that takes time, with nothing in its cache."""

from __future__ import annotations

import math

import numpy as np

from gencond_fast.condensation.measure import chosen_images
from gencond_fast.condensation.networks import plan_networks
from gencond_fast.condensation.task import Setting
from gencond_fast.config import Config
from gencond_fast.config.steps import coding_steps, labeller_epochs
from gencond_fast.data.sample import sample_rows
from gencond_fast.store.spec import StoreSpec
from gencond_fast.system.machine import own_memory

_LABEL_BATCH = 128
_SHARE = {"off": 0.0, "auto": 0.25, "on": 1.0}  # of the free memory, for decoded images


def stage_steps(config: Config, samples: int) -> tuple[int, int, int, int]:
    """Steps of the coding, of the warm start, of the matching and of trajectory matching.

    Args:
        config: all options, `training.steps` as a number.
        samples: stored samples of all classes together.
    """
    steps = config.training.steps or 0
    warm = round(steps * config.warm_share)
    match = steps - warm
    coding = coding_steps(config, samples)
    return coding, 0 if config.starts_as_images else warm, match, config.trajectory.steps


def count(setting: Setting, spec: StoreSpec, *, labelled: bool = False) -> dict[str, int]:
    """What the condensation of a setting into a stored set does, and the bytes that it holds.

    Args:
        setting: data and options.
        spec: of the stored set.
        labelled: whether the file has a labeller.

    Returns:
        `sample`: images read at the start; `networks`: steps of all feature networks; `bank`:
        images behind the statistics; `experts`, `teachers`: images that they see over all epochs;
        `coding`, `warm`, `match`, `trajectory`: steps; `checkpoints`; `labels`: batches of soft
        labels; `decoded`: images that statistics, experts and teachers decode once more; `held`:
        bytes of images and of weights in memory.
    """
    config, images = setting.config, len(setting.source.train)
    stages = coding, warm, match, trajectory = stage_steps(config, spec.samples)
    sampled = sample_rows(setting.source, **setting.sample_options)
    chosen = chosen_images(setting) if match else np.empty(0, np.int64)
    full_data = spec.soft_labels and config.labels.source == "full_data"
    experts = config.trajectory.experts if trajectory else 0
    teachers = config.teachers.count if full_data else 0
    seen = experts * config.trajectory.epochs, teachers * config.teachers.epochs
    if labelled:
        teachers, seen = teachers + 1, (seen[0], seen[1] + labeller_epochs(config, images))
    image_bytes = setting.source.channels * setting.image_size**2
    room = _SHARE[config.in_memory] * own_memory() / image_bytes
    # images that are stored as pixels are neither decoded nor kept
    encoded = setting.source.train.shape is None
    both = len(np.intersect1d(sampled, chosen))
    kept = both if encoded and both <= room else 0
    whole = images if encoded and any(seen) and images <= room else 0
    network = setting.classifier(config.networks.model)
    weights = 4 * sum(each.numel() for each in network.parameters())
    states = 1 + config.trajectory.epochs * config.trajectory.parts_of(images)
    passes = experts + teachers if whole else sum(seen)
    plans = plan_networks(config.networks)
    every = config.training.checkpoint_every
    ends = set(np.cumsum(stages).tolist())
    return {
        "sample": 0 if config.privacy.on else len(sampled),
        "networks": sum(plan.steps for plan in plans if plan.end is None),
        "bank": len(chosen),
        "experts": seen[0] * images,
        "teachers": seen[1] * images,
        "coding": coding,
        "warm": warm,
        "match": match,
        "trajectory": trajectory,
        "checkpoints": len({*ends, *range(every, sum(stages) + 1, every)} - {0}),
        "labels": math.ceil(spec.samples / _LABEL_BATCH) if spec.soft_labels else 0,
        "decoded": (len(chosen) - kept + passes * images) if encoded else 0,
        "held": (len(sampled) + max(kept, whole)) * image_bytes + experts * states * weights,
    }
