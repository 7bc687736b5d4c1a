"""Parts of the work of reading images, which say what bounds the whole. One thread of Pillow each,
and as many of DALI as its rivals have; their images are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image

from benchmarks.peers.loaders import dali_modules, open_window, resize
from benchmarks.reading import Epoch, Job, Read

_HELD_PIXELS = 100 * 10**6


def files_only(job: Job) -> Epoch:
    """Reads the bytes of the files, from the page cache where they have been read before."""

    def epoch() -> Iterator[Read]:
        for rows in _batches(job):
            for row in rows:
                with open(job.files[row], "rb") as file:
                    file.read()
            yield _nothing(rows)

    return epoch


def pillow_decodes(job: Job) -> Epoch:
    """Decodes files to RGB, at a fraction of their size where the target allows it."""

    def epoch() -> Iterator[Read]:
        for rows in _batches(job):
            for row in rows:
                open_window(job.files[row], job.windows[row], job.size)
            yield _nothing(rows)

    return epoch


def pillow_resizes(job: Job) -> Epoch:
    """Resizes images that are decoded already: as many of them, evenly spread, as fit in 300 MB."""
    held: list[tuple[Image.Image, tuple[float, float, float, float]]] = []
    step, pixels = max(1, len(job.files) // 64), 0
    for row in range(0, len(job.files), step):
        image, window = open_window(job.files[row], job.windows[row], job.size)
        pixels += image.width * image.height
        if held and pixels > _HELD_PIXELS:
            break
        held.append((image, window))

    def epoch() -> Iterator[Read]:
        for rows in _batches(job):
            for row in rows:
                resize(*held[row % len(held)], job.size)
            yield _nothing(rows)

    return epoch


def dali_decodes(job: Job) -> Epoch:
    """Decodes files to RGB in a DALI pipeline, and leaves the pixels there."""
    pipeline_of, fn, types = dali_modules()
    pipeline = pipeline_of(job.batch, num_threads=job.workers, device_id=None)
    with pipeline:
        rows = list(range(len(job.files)))
        encoded, row = fn.readers.file(files=job.files, labels=rows, random_shuffle=False)
        pipeline.set_outputs(fn.decoders.image(encoded, output_type=types.RGB), row)
    pipeline.build()

    def epoch() -> Iterator[Read]:
        for rows in _batches(job):
            pipeline.run()
            yield _nothing(rows)

    return epoch


def _batches(job: Job) -> Iterator[list[int]]:
    for start in range(0, job.images, job.batch):
        yield [at % len(job.files) for at in range(start, min(start + job.batch, job.images))]


def _nothing(rows: list[int]) -> Read:
    row = torch.tensor(rows)
    return Read(torch.empty(0), row, row)
