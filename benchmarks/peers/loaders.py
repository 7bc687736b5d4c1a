"""Other ways of reading images, each as its own manual would have it for speed on a CPU.

They do what is asked and no more: upright RGB squares, uint8, in batches. Each is given what the
others would have to find first, the files and their windows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from benchmarks.reading import Epoch, Job, Read


def open_window(
    file: str | io.BytesIO, window: np.ndarray, size: int
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Decodes at a fraction of the size where that leaves twice the target; rescales the window."""
    image = Image.open(file)
    shrink = min(window[2] - window[0], window[3] - window[1]) / (2 * size)
    width = image.width
    if shrink >= 2 and image.format == "JPEG":
        image.draft("RGB", (math.ceil(width / shrink), math.ceil(image.height / shrink)))
    scale = image.width / width
    left, top, right, bottom = (float(edge * scale) for edge in window)
    return ImageOps.exif_transpose(image).convert("RGB"), (left, top, right, bottom)


def resize(image: Image.Image, window: tuple[float, float, float, float], size: int) -> np.ndarray:
    """The window as a square, bicubic and antialiased; uint8 [S, S, 3]."""
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=window, reducing_gap=3.0)
    return np.array(square)


class Files(Dataset[tuple[torch.Tensor, int, int]]):
    """A map-style data set of files, decoded by Pillow."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __len__(self) -> int:
        return self._job.images

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        job = self._job
        row = index % len(job.files)
        image, window = open_window(job.files[row], job.windows[row], job.size)
        pixels = torch.from_numpy(resize(image, window, job.size)).permute(2, 0, 1)
        return pixels, int(job.labels[row]), row


def dataloader(job: Job, workers: int) -> Epoch:
    """torch.utils.data.DataLoader, its workers kept from epoch to epoch."""
    if not workers:
        torch.set_num_threads(1)  # as workers have it; the collation of a batch is no work for more
    loader = DataLoader(Files(job), batch_size=job.batch, **_workers(workers))

    def epoch() -> Iterator[Read]:
        return (Read(*batch) for batch in loader)

    return epoch


def _workers(count: int) -> dict[str, Any]:
    if not count:
        return {}
    return {
        "num_workers": count,
        "persistent_workers": True,
        "prefetch_factor": 4,
        "multiprocessing_context": "fork",  # starts soonest
    }


def webdataset(job: Job) -> Epoch:
    """WebDataset over the archives, batches put together by the workers."""
    import webdataset as wds

    dataset = (
        wds.WebDataset(job.shards * job.passes, shardshuffle=False, empty_check=False)
        .map(partial(_decode_sample, job))
        .batched(job.batch, partial=True)
    )
    loader = wds.WebLoader(dataset, batch_size=None, **_workers(job.workers))

    def epoch() -> Iterator[Read]:
        return (Read(*map(torch.as_tensor, batch)) for batch in loader)

    return epoch


def _decode_sample(job: Job, sample: dict[str, Any]) -> tuple[torch.Tensor, int, int]:
    row = int(sample["__key__"])
    image, window = open_window(io.BytesIO(sample["jpg"]), job.windows[row], job.size)
    pixels = torch.from_numpy(resize(image, window, job.size)).permute(2, 0, 1)
    return pixels, int(sample["cls"]), row


def dali_modules() -> tuple[Any, Any, Any]:
    """The class of pipelines, their operators and their types, which have no annotations."""
    from nvidia.dali import Pipeline, fn, types

    return Pipeline, fn, types


def dali(job: Job) -> Epoch:
    """A DALI pipeline as its manual has it: whole images are decoded and resized, then cropped."""
    _, fn, types = dali_modules()

    def process(encoded: Any, row: Any) -> Any:
        images = fn.decoders.image(encoded, output_type=types.RGB)
        resized = fn.resize(
            images, resize_shorter=job.size, interp_type=types.INTERP_CUBIC, antialias=True
        )
        return fn.crop(resized, crop=(job.size, job.size))

    return _pipeline(job, process)


def dali_regions(job: Job) -> Epoch:
    """A DALI pipeline that does what is needed: decodes and resizes the windows alone.

    `decoders.image_random_crop` decodes in this way, too, but draws the windows itself.
    """
    _, fn, types = dali_modules()
    windows = job.windows[:, [1, 0, 3, 2]].astype(np.int32)

    def process(encoded: Any, row: Any) -> Any:
        table = types.Constant(windows, device="cpu")
        edges = fn.reshape(fn.slice(table, row, 1, axes=[0]), shape=[4])
        images = fn.decoders.image_slice(
            encoded, start=edges[:2], end=edges[2:], axes=[0, 1], output_type=types.RGB
        )
        return fn.resize(
            images, size=[job.size, job.size], interp_type=types.INTERP_CUBIC, antialias=True
        )

    return _pipeline(job, process)


def _pipeline(job: Job, process: Callable[[Any, Any], Any]) -> Epoch:
    pipeline_of, fn, _ = dali_modules()
    rows = list(range(len(job.files)))
    ahead = min(3, job.batches)
    pipeline = pipeline_of(
        job.batch, num_threads=job.workers, device_id=None, prefetch_queue_depth=ahead
    )
    with pipeline:
        encoded, row = fn.readers.file(
            files=job.files * job.passes,
            labels=rows * job.passes,
            random_shuffle=False,
            pad_last_batch=True,
        )
        pipeline.set_outputs(process(encoded, row), row)
    pipeline.build()
    labels = torch.from_numpy(job.labels)
    fresh = True

    def epoch() -> Iterator[Read]:
        # not DALI's own iterator, which would begin the next epoch while nobody takes the time
        nonlocal fresh
        for _ in range(1 if fresh else ahead):  # the first call of all fills the queue
            pipeline.schedule_run()
        fresh = False
        for number in range(job.batches):
            images, rows = (_copied(each) for each in pipeline.share_outputs())
            pipeline.release_outputs()
            if number + ahead < job.batches:
                pipeline.schedule_run()
            row = rows.flatten()[: job.images - number * job.batch].long()  # the rest is padding
            yield Read(images[: len(row)].permute(0, 3, 1, 2), labels[row], row)

    return epoch


def _copied(outputs: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(outputs.as_array()))
