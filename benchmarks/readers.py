"""Our readers as ways of reading, each chosen by its name."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain

import numpy as np

from benchmarks.reading import Epoch, Job, Read
from gencond_fast.data import open_source, stream
from gencond_fast.data.readers.batch import Batch, Form, in_order
from gencond_fast.data.readers.choice import Reader
from gencond_fast.data.readers.prefetch import ahead

IN_MEMORY = "in memory"
MODULES = {
    "threads": "gencond_fast.data.readers.threads",
    "processes": "gencond_fast.data.readers.processes",
    "dali": "gencond_fast.data.readers.dali",
    IN_MEMORY: "gencond_fast.data.readers.image_cache",
}
_FUNCTIONS = {
    "threads": "read_in_threads",
    "processes": "read_in_processes",
    "dali": "read_with_dali",
}


def obstacle(name: str, random: bool = False) -> str | None:
    """Why a reader, or what is held in memory, cannot be used here; None if it can."""
    if name == IN_MEMORY and random:
        return "images under random windows are never the same, so none can be kept"
    try:
        module = importlib.import_module(MODULES[name])
    except ImportError as error:
        return str(error)
    return module.dali_obstacle() if name == "dali" else None


def find(name: str) -> Reader:
    """The reader of that name."""
    return getattr(importlib.import_module(MODULES[name]), _FUNCTIONS[name])


def reading(job: Job, name: str) -> Epoch:
    """One call of the reader an epoch: the threads or processes that it has begin and end with it.

    What is opened is the folder, as a user would, and batches are taken ahead, as `stream` does.
    """
    read = find(name)
    split = open_source(job.root).train
    form = Form(channels=3, size=job.size, crop=job.crop)

    def batches() -> Generator[Batch, None, None]:
        rows = np.arange(len(split))
        with ExitStack() as stack:
            passes = [
                stack.enter_context(in_order(split.split, rows, job.batch))
                for _ in range(job.passes)
            ]
            yield from read(split, form, chain.from_iterable(passes), job.workers)

    def epoch() -> Iterator[Read]:
        for batch in ahead(batches()):
            yield Read(batch.images, batch.labels, batch.indices)

    return epoch


def reading_kept(job: Job) -> Epoch:
    """Streams of a split that keeps its images once they were decoded, in the first pass of all."""
    kept = importlib.import_module(MODULES[IN_MEMORY])
    split = open_source(job.root).train
    cache = kept.ImageCache(Form(channels=3, size=job.size), np.arange(len(split)))
    again = partial(
        stream,
        split.with_cache(cache),
        channels=3,
        image_size=job.size,
        batch_size=job.batch,
        workers=job.workers,
    )

    def epoch() -> Iterator[Read]:
        for batch in chain.from_iterable(again() for _ in range(job.passes)):
            yield Read(batch.images, batch.labels, batch.indices)

    return epoch
