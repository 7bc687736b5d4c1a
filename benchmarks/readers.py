"""Our readers as ways of reading, each chosen by its name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain

import numpy as np

from benchmarks.reading import Epoch, Job, Read
from gencond_fast.data import open_source
from gencond_fast.data.batch import Form, Reader, in_order

MODULES = {
    "threads": "gencond_fast.data.threads",
    "processes": "gencond_fast.data.processes",
    "dali": "gencond_fast.data.dali",
}
_FUNCTIONS = {
    "threads": "read_in_threads",
    "processes": "read_in_processes",
    "dali": "read_with_dali",
}


def obstacle(name: str) -> str | None:
    """Why a reader cannot be used here, None if it can."""
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

    What is opened is the folder, as a user would.
    """
    read = find(name)
    split = open_source(job.root).train
    form = Form(channels=3, size=job.size, crop=job.crop)

    def epoch() -> Iterator[Read]:
        rows = np.arange(len(split))
        with ExitStack() as stack:
            passes = [
                stack.enter_context(in_order(split, rows, job.batch)) for _ in range(job.passes)
            ]
            batches = read(split, form, chain.from_iterable(passes), job.workers)
            for batch in batches:
                yield Read(batch.images, batch.labels, batch.indices)

    return epoch
