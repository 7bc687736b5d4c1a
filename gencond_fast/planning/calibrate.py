"""A short real condensation, timed on this machine."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gencond_fast.condensation.run import condense, sized_metadata
from gencond_fast.condensation.task import Setting, choose_image_size, set_up
from gencond_fast.condensation.teachers import check_teachers
from gencond_fast.condensation.validate import check_choices
from gencond_fast.config import Config
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.planning.count import count, stage_steps
from gencond_fast.planning.recording import RecordingReporter, Span
from gencond_fast.planning.short_run import (
    RUN,
    STAGES,
    cache_in,
    device_memory,
    open_planned,
    shortened,
)
from gencond_fast.store.artifact import file_size
from gencond_fast.store.spec import StoreSpec
from gencond_fast.system.memory import peak_memory

_READ = 256, 1280  # images
_STEPS = "matching"  # what a run calls its steps of all stages


@dataclass(frozen=True)
class Unit:
    """What a run does many times: in which phase, seconds of each, times in short and in full."""

    phase: str
    name: str
    pace: float
    short: int
    full: int

    @property
    def more(self) -> float:
        """Seconds that the full run takes more than the short one."""
        return (self.full - self.short) * self.pace


@dataclass(frozen=True)
class Condensation:
    """What a short condensation took, and what the full one does more often.

    Attributes:
        size: bytes of the file to come.
        spec: of its stored set.
        steps: `training.steps` and `trajectory.steps`.
        images: of the training split.
        runtime: device, precision, compilation.
        seconds: of each phase of the short run.
        units: what makes the full run longer.
        reading: seconds to decode an image; 0 where images are not at hand.
        memory: bytes of the process at most, with what the full run holds beyond the short one.
        device_memory: bytes of the GPU at most, 0 without one.
    """

    size: int
    spec: StoreSpec
    steps: tuple[int, int]
    images: int
    runtime: str
    seconds: dict[str, float]
    units: tuple[Unit, ...]
    reading: float
    memory: int
    device_memory: int


def calibrate_condensation(
    folder: Path, config: Config, absent: tuple[int, int] | None, began: float
) -> Condensation:
    """Condenses with few steps and few images; for a process of its own.

    Args:
        folder: for everything that is written but the index of the data.
        config: of the planned condensation.
        absent: images and classes of data that are not at hand.
        began: when the process was started, by `time.monotonic`.

    Raises:
        InputError: the data or an option cannot be used.
        RunError: the optimisation diverged.
    """
    reporter = RecordingReporter()
    source = open_planned(config, absent)
    opened = time.monotonic()
    image_size = choose_image_size(config, source)
    check_choices(config, source, image_size)
    check_teachers(config, source, image_size)
    cache_in(folder)
    setting = set_up(config, source, image_size, reporter)
    blank = Normalisation((0.1234,) * source.channels, (0.1234,) * source.channels)
    metadata = sized_metadata(config, source, image_size, blank)
    short = shortened(setting, metadata.store, str(folder / RUN))
    reading = 0.0 if absent else _time_reading(source, image_size)
    full = count(setting, metadata.store, labelled=metadata.labeller is not None)
    resumed = time.monotonic()
    condense(short.config, reporter, source=short.source)
    seconds = phases(reporter.spans, began - opened + resumed, time.monotonic())
    return Condensation(
        size=file_size(metadata),
        spec=metadata.store,
        steps=(setting.config.training.steps or 0, setting.config.trajectory.steps),
        images=len(source.train),
        runtime=setting.runtime.describe(),
        seconds=seconds,
        units=tuple(_units(reporter.spans, short, metadata.store.samples, full, reading)),
        reading=reading,
        memory=peak_memory() + full["held"],
        device_memory=device_memory(),
    )


def phases(spans: list[Span], began: float, ended: float) -> dict[str, float]:
    """Seconds of the phases of a condensation; their sum is all of its time."""

    def total(*names: str) -> float:
        return sum(span.seconds for span in spans if span.name.startswith(names))

    start = min(span.start for span in spans)
    nothing = Span("", start, start, [])
    networks = next((span for span in spans if span.name == "feature networks"), nothing)
    steps = next(span for span in spans if span.name == _STEPS)
    experts, labels = total("expert "), total("teacher ", "label networks", "soft labels")
    return {
        "start": networks.start - began,
        "networks": networks.seconds,
        "bank": steps.start - networks.end - experts,
        "experts": experts,
        "condensing": steps.seconds,
        "labels": labels,
        "finish": ended - steps.end - labels,
    }


def pace(steps: list[tuple[int, float]]) -> float:
    """Seconds of a unit, but for the first step and for others that seem to compile."""
    paces = [seconds / units for units, seconds in steps[1:] or steps]
    usual = 3 * statistics.median(paces)
    return statistics.fmean(each for each in paces if each <= usual)


def _units(
    spans: list[Span], short: Setting, samples: int, full: dict[str, int], reading: float
) -> list[Unit]:
    """What the full run does more often than these spans of the short one."""
    images = len(short.source.train)
    found = [
        Unit("start", "sample", reading, min(images, full["sample"]), full["sample"]),
        Unit("bank", "decoded", reading, 0, full["decoded"]),
    ]
    names = {
        "feature networks": ("networks", "networks"),
        "real statistics": ("bank", "bank"),
        "release": ("bank", "bank"),
        "label networks": ("labels", "networks"),
        "soft labels": ("labels", "labels"),
    }
    for span in spans:
        if span.name in names and span.steps:
            phase, name = names[span.name]
            done = sum(units for units, _ in span.steps)
            found.append(Unit(phase, name, pace(span.steps), done, full[name]))
    for phase, name, kind in (
        ("experts", "experts", "expert "),
        ("labels", "teachers", "teacher "),
    ):
        epochs = [seconds for s in spans if s.name.startswith(kind) for _, seconds in s.steps]
        if epochs:  # the first one of each network decodes and compiles
            each = min(epochs) / images
            found.append(Unit(phase, name, each, images * len(epochs), full[name]))
    (span,) = (span for span in spans if span.name == _STEPS)
    begin, taken = 0, stage_steps(short.config, samples)
    for name, steps in zip(STAGES, taken, strict=True):
        if steps:
            each = pace(span.steps[begin : begin + steps])
            found.append(Unit("condensing", name, each, steps, full[name]))
        begin += steps
    # the short run writes its last checkpoint behind its last step
    saving = max(0.0, span.seconds - sum(seconds for _, seconds in span.steps))
    return [*found, Unit("condensing", "checkpoints", saving, 1, full["checkpoints"])]


def _time_reading(source: Source, image_size: int) -> float:
    """Seconds to decode one of the images from all over the split, but for the first few."""
    seconds = []
    for images in _READ:
        rows = np.linspace(0, len(source.train) - 1, min(images, len(source.train)))
        options = {"channels": source.channels, "image_size": image_size, "batch_size": _READ[0]}
        start = time.perf_counter()
        for _ in stream(source.train, indices=np.unique(rows.astype(np.int64)), **options):
            pass
        seconds.append(time.perf_counter() - start)
    return max(0.0, seconds[1] - seconds[0]) / (_READ[1] - _READ[0])
