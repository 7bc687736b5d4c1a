"""What a condensation costs here: a miniature of it is run and watched."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gencond_fast.condensation.checkpoint import CHECKPOINTS, load_checkpoint, save_checkpoint
from gencond_fast.condensation.run import condense, sized_metadata
from gencond_fast.condensation.sharing import check_enough
from gencond_fast.condensation.stage import build_optimizer
from gencond_fast.condensation.task import Setting, choose_image_size, open_config, set_up
from gencond_fast.condensation.teachers import check_teachers
from gencond_fast.condensation.validate import check_choices
from gencond_fast.config import Config, PlanConfig
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.planning.counts import Counts, count
from gencond_fast.planning.isolated import keep_to
from gencond_fast.planning.miniature import blank, choose_classes, shrink
from gencond_fast.planning.noise import noise_source
from gencond_fast.planning.watch import Timeline, Watch
from gencond_fast.store import artifact
from gencond_fast.store.store import StoredSet
from gencond_fast.store.stores import build_store
from gencond_fast.system.machine import own_memory

RUN = "run"  # the directory of the miniature
_FEW, _LONG = 256, 1.0  # images and seconds of a first and of a last measurement of reading
_REPEATS = 3
_WEIGH_EVERY = 10  # steps of the matching


@dataclass(frozen=True)
class Condensing:
    """What was measured.

    Attributes:
        size: bytes of the file to come.
        per_class: stored samples of a class.
        image_size: side in pixels.
        runtime: device, precision, compilation.
        full: what is planned.
        mini: what was done.
        timeline: when.
        reading: seconds to have an image decoded; None where images are not at hand.
        updating: seconds of a step of the miniature that hang on the size of the stored set alone.
        saving: seconds of a checkpoint of the miniature.
        refused: by numbers of ranks, why there cannot be so many.
    """

    size: int
    per_class: int
    image_size: int
    runtime: str
    full: Counts
    mini: Counts
    timeline: Timeline
    reading: float | None
    updating: float
    saving: float
    refused: dict[int, str]


def open_planned(config: Config, plan: PlanConfig, watch: Watch) -> Source:
    """The data of a plan, or noise in their place.

    Raises:
        InputError: the data cannot be used, or nothing says how large noise is to be.
    """
    if plan.images is None or plan.num_classes is None:
        return open_config(config, watch)
    if config.classes is not None or config.val_fraction is not None:
        raise InputError("--classes and --val-fraction are for data that are at hand: give --data")
    if config.image_size is None:
        raise InputError("the data are not at hand: say with --image-size how large images are")
    return noise_source(plan.images, plan.num_classes, config.image_size)


def calibrate_condensing(
    config: Config, plan: PlanConfig, classes: int | None, folder: Path, began: float
) -> Condensing:
    """Runs a miniature; for a process of its own.

    Args:
        config: of the condensation that is planned.
        plan: what else is.
        classes: of the miniature; None chooses.
        folder: where everything goes that it writes, but for the index of the data.
        began: when the process was started, by `time.monotonic`.

    Raises:
        InputError: the data or an option cannot be used.
        RunError: the optimisation diverged.
    """
    watch = Watch()
    source = open_planned(config, plan, watch)
    opened = time.monotonic()
    image_size = choose_image_size(config, source)
    check_choices(config, source, image_size)
    check_teachers(config, source, image_size)
    keep_to(folder)
    setting = set_up(config, source, image_size, watch)
    watch = Watch(setting.runtime.device.type)
    metadata = sized_metadata(config, source, image_size, blank(source))
    full = count(setting, metadata.store)
    classes = classes or choose_classes(full, own_memory())
    small, part = shrink(setting, metadata.store, classes, str(folder / RUN))
    resumed = time.monotonic()
    path = condense(small, watch, source=part)
    timeline = watch.timeline(began, opened, resumed)
    spec = artifact.load(path).metadata.store
    mini = count(Setting(small, part, image_size, setting.runtime, watch), spec)
    store = build_store(spec).to(setting.runtime.device)
    return Condensing(
        size=artifact.file_size(metadata),
        per_class=metadata.store.per_class,
        image_size=image_size,
        runtime=setting.runtime.describe(),
        full=full,
        mini=mini,
        timeline=timeline,
        reading=None if plan.images else time_reading(source, image_size),
        updating=_time_update(store, config.training.clip),
        saving=_time_saving(folder / RUN / CHECKPOINTS),
        refused=_refused(config, source, plan.devices),
    )


def time_reading(source: Source, image_size: int) -> float:
    """Seconds to have one training image decoded, without what comes before the first.

    Images from all over the split are read, more of them until that takes a second.
    """
    most = len(source.train)
    images = few = min(_FEW, most)
    seconds = first = _time_images(source, image_size, few)
    while seconds < _LONG and images < most:
        images = min(4 * images, most)
        seconds = _time_images(source, image_size, images)
    if images == few:
        return seconds / images
    return max(0.0, (seconds - first) / (images - few))


def _time_images(source: Source, image_size: int, images: int) -> float:
    rows = np.linspace(0, len(source.train) - 1, images).astype(np.int64)
    start = time.perf_counter()
    for _ in stream(
        source.train,
        channels=source.channels,
        image_size=image_size,
        batch_size=_FEW,
        indices=np.unique(rows),
    ):
        pass
    return time.perf_counter() - start


def _time_update(store: StoredSet, clip: float) -> float:
    """Seconds for what a step does with the gradient of the stored set."""
    optimizer = build_optimizer(store, 1e-6)

    def step() -> None:
        for each in store.parameters():
            each.grad = torch.zeros_like(each)
        nn.utils.clip_grad_norm_(store.parameters(), clip)
        optimizer.step()

    step()  # makes the moments
    taken = _mean_seconds(step for _ in range(_REPEATS))
    return taken + _mean_seconds([store.update_price]) / _WEIGH_EVERY


def _mean_seconds(calls: Iterable[object]) -> float:
    times = []
    for call in calls:
        start = time.perf_counter()
        call()  # type: ignore[operator]
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sum(times) / len(times)


def _time_saving(directory: Path) -> float:
    saved = load_checkpoint(directory)
    assert saved is not None
    start = time.perf_counter()
    save_checkpoint(directory, saved)
    return time.perf_counter() - start


def _refused(config: Config, source: Source, devices: tuple[int, ...]) -> dict[int, str]:
    found = {}
    for world in devices:
        try:
            check_enough(config, source, Ranks(0, world))
        except InputError as error:
            found[world] = str(error).partition(": ")[0]
    return found
