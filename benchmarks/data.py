"""Images a second of every way to read them, ours and others', each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib import metadata

from benchmarks import calibration, readers
from benchmarks.case import Case
from benchmarks.images import prepared
from benchmarks.isolated import Isolated
from benchmarks.peers import loaders
from benchmarks.reading import Job, Way
from benchmarks.timing import Timing

SIZES = {"photographs": 224, "small": 128}
WINDOWS = ("centre", "random")

_STEP = 1.5  # times what a batch takes to read
_DALI = ("nvidia.dali",)
_FFCV = "has no wheel, and needs OpenCV and libturbojpeg to be built"


def cases(
    sources: Mapping[str, str],
    windows: Sequence[str],
    images: Mapping[str, int],
    batch: int,
    workers: int,
) -> Iterator[Case]:
    """Every kind of images with every kind of windows, once all ways agree with Pillow.

    A call reads an epoch. What lasts longer than one (DataLoader's workers, DALI's pipeline) is
    there before the call; what our readers start and end with an epoch is in their time.

    Args:
        sources: path or name of the images, by kind: those of `SIZES`.
        windows: those of `WINDOWS` that are wanted.
        images: how many images an epoch reads at least, by kind.
        batch: images in a batch.
        workers: threads or processes that decode.

    Raises:
        AssertionError: a way gives other pixels; the message names it.
    """
    for kind, data in sources.items():
        for window in windows:
            inputs = prepared(data, SIZES[kind], images[kind], batch, workers, window == "random")
            with inputs as job, ExitStack() as stack:
                possible, skipped = ways(workers, random=window == "random")
                running = {
                    name: stack.enter_context(closing(Isolated(name, way, job)))
                    for name, way in possible.items()
                }
                for each in running.values():
                    each.ready()
                for name, each in running.items():
                    each.open()
                    if not possible[name].calibrates:
                        each.check()
                yield Case(
                    _key(kind, window, job),
                    {name: each.read for name, each in running.items()},
                    skipped,
                    columns={
                        "files": len(job.files),
                        "cores": len(os.sched_getaffinity(0)),
                        "rivals": _versions(),
                    },
                    measure=partial(_measured, job, possible, running),
                )


def ways(workers: int, random: bool) -> tuple[dict[str, Way], dict[str, str]]:
    """Every way that is possible here, ours first, and why the others are not."""
    several = "1 worker" if workers == 1 else f"{workers} workers"
    loader = "DataLoader + Pillow"
    rivals = {
        f"{loader}, no workers": Way(partial(loaders.dataloader, workers=0), alone=True),
        f"{loader}, {several}": Way(partial(loaders.dataloader, workers=workers)),
        f"webdataset + Pillow, {several}": Way(loaders.webdataset, ("webdataset",)),
        "DALI, resize and crop": Way(loaders.dali, _DALI, resized_whole=True),
        "DALI, regions": Way(loaders.dali_regions, _DALI),
        "files alone": Way(calibration.files_only, alone=True, calibrates=True),
        "Pillow decodes, one thread": Way(calibration.pillow_decodes, alone=True, calibrates=True),
        "Pillow resizes, one thread": Way(calibration.pillow_resizes, alone=True, calibrates=True),
        "DALI decodes": Way(calibration.dali_decodes, _DALI, calibrates=True),
    }
    ours = {
        name: Way(partial(readers.reading, name=name), (module,))
        for name, module in readers.MODULES.items()
    } | {readers.IN_MEMORY: Way(readers.reading_kept)}
    obstacles = {f"gencond_fast ({name})": readers.obstacle(name, random) for name in ours}
    for name, way in rivals.items():
        missing = [module for module in way.modules if not _installed(module)]
        obstacles[name] = f"{missing[0]} is not installed" if missing else None
        if random and way.resized_whole:
            obstacles[name] = "draws windows of its own, whose pixels cannot be checked"
    both = {f"gencond_fast ({name})": way for name, way in ours.items()} | rivals
    possible = {name: way for name, way in both.items() if not obstacles[name]}
    skipped = {name: reason for name, reason in obstacles.items() if reason}
    return possible, skipped | {"ffcv": _FFCV}


def _measured(
    job: Job,
    possible: Mapping[str, Way],
    running: Mapping[str, Isolated],
    timings: Mapping[str, Timing],
) -> dict[str, dict[str, float | None]]:
    """The further columns of each way."""
    best = min(t.median for name, t in timings.items() if name.startswith("DataLoader"))
    found: dict[str, dict[str, float | None]] = {}
    for name, each in running.items():
        way, taken = possible[name], timings[name].median
        whole = not way.calibrates
        rate = 1e3 * job.images / taken
        found[name] = {
            "images_per_second": round(rate, 1),
            "per_core": round(rate if way.alone else rate / job.workers, 1),
            "of_dataloader": round(best / taken, 3) if whole else None,
            "cpu_ms_an_image": round(1e3 * statistics.median(each.cpu) / job.images, 3),
            "first_batch_ms": round(1e3 * each.first_batch, 1),
            "waiting": each.waiting(_STEP * taken / 1e3 / job.batches) if whole else None,
            "peak_mb": round(each.peak_mb(), 1),
        }
    return found


def _key(kind: str, window: str, job: Job) -> dict[str, object]:
    return {
        "kind": kind,
        "windows": window,
        "size": job.size,
        "images": job.images,
        "batch": job.batch,
        "workers": job.workers,
    }


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _versions() -> str:
    found = {dist.name.lower(): dist.version for dist in metadata.distributions()}
    wanted = [name for name in found if name.startswith("nvidia-dali") or name == "webdataset"]
    return " ".join(f"{name}={found[name]}" for name in sorted(wanted))
