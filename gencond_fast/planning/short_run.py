"""The short run that stands for a planned one: its options, its data, and where it caches."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gencond_fast.condensation.task import Setting, open_config
from gencond_fast.condensation.whole_split import BATCH
from gencond_fast.config import Config
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.source import Source
from gencond_fast.discrepancy import required
from gencond_fast.planning.count import stage_steps
from gencond_fast.planning.noise import noise_source
from gencond_fast.planning.recording import RecordingReporter
from gencond_fast.store.budget import ipc_to_bytes
from gencond_fast.store.spec import StoreSpec

# steps; the price is updated every ten, that of coding every twenty
STAGES = {"coding": 25, "warm": 13, "match": 21, "trajectory": 5}
_TRAIN_STEPS = 32
_IMAGES = 3 * 256 + 128  # whole batches of the statistics and a part of one
_SLACK = 4096  # bytes for a longer header
RUN = "run"


def cache_in(folder: Path) -> None:
    """Lets this process put what it would cache into a folder, compiled code included."""
    os.environ["GENCOND_FAST_CACHE"] = str(folder / "cache")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")


def open_planned(config: Config, absent: tuple[int, int] | None) -> Source:
    """The data of a planned condensation, noise where they are not at hand."""
    return noise_source(*absent, config) if absent else open_config(config, RecordingReporter())


def device_memory() -> int:
    """Bytes of the GPU that this process held at most, 0 without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0


def planned_bytes(config: Config, spec: StoreSpec) -> int:
    """The budget of a planned condensation."""
    shape = (spec.num_classes, spec.channels, spec.image_size)
    return config.bytes or ipc_to_bytes(config.ipc or 1, *shape)


def shortened(setting: Setting, spec: StoreSpec, out: str) -> Setting:
    """The same stored samples, networks and batches with few steps and few real images."""
    config, source = setting.config, setting.source
    networks, options = config.networks, config.trajectory
    few = math.ceil(_IMAGES / spec.num_classes)
    needed = required(config.losses.discrepancies)
    draws = any(loss.needs_samples or loss.needs_images for loss in needed)
    each = few
    if draws or networks.real_batch or config.losses.adversarial:  # real images in every step
        each = max(few, networks.real_batch or networks.sample_batch)
    rows = np.flatnonzero(shuffled_rank(source.train.labels, config.seed) < each)
    wanted = zip(stage_steps(config, spec.samples), STAGES.values(), strict=True)
    coding, warm, match, trajectory = (min(steps, most) for steps, most in wanted)
    # where all steps are of a warm start that is left out, as they are after a start from images
    steps = warm + match or min(1, config.training.steps or 0)
    parts = min(options.parts_of(len(source.train)), math.ceil(len(rows) / BATCH))
    # all sizes of the stored set, so that none is left to be chosen
    sizes: dict[str, dict[str, Any]] = {
        "dct": {"coefficients": spec.coefficients},
        "pixels": {"code_size": spec.code_size, "factor": None},
        "generator": {"width": spec.width, "coefficients": spec.coefficients},
    }
    small = replace(
        config,
        out=out,
        ipc=None,
        bytes=planned_bytes(config, spec) + _SLACK,
        classes=None,
        val_fraction=None,
        image_size=spec.image_size,
        in_memory="on",
        store=replace(config.store, per_class=spec.per_class, **sizes[spec.format]),
        networks=replace(
            networks,
            train_steps=min(networks.train_steps, _TRAIN_STEPS),
            train_images=min(networks.train_images, each),
            # a private run measures all of its images
            real_per_class=None if config.privacy.on else few,
        ),
        training=replace(
            config.training,
            steps=steps,
            check=False,  # a tenth of the time in any case
            coding_steps=coding or None,
            warm_start=warm / steps if warm + match else config.training.warm_start,
            log_every=1,
            checkpoint_every=max(1, coding + steps + trajectory),
        ),
        trajectory=replace(
            options,
            steps=trajectory,
            experts=min(options.experts, 2),
            epochs=2,
            max_start_epoch=1,
            parts=parts,
            span=min(options.span, parts),
        ),
        teachers=replace(config.teachers, count=min(config.teachers.count, 2), epochs=2),
    )
    part = source.subset(rows, lambda line: None)
    return replace(setting, config=small, source=part)
