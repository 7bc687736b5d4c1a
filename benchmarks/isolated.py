"""A way of reading in a process of its own, which other ways neither help nor disturb."""

from __future__ import annotations

import importlib
import multiprocessing
import time
import traceback
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from benchmarks.processes import cpu_seconds, peak_of
from benchmarks.reading import Epoch, Job, Read, Way

# mean absolute differences in levels of 0 … 255, of the worst image and over all images; half a
# pixel of displacement is about 3 in photographs, and up to 13
TOLERANCE = (4.0, 1.0)


class Isolated:
    """Answers requests one after another, `ready` and `open` first; its process ends with `close`.

    Args:
        name: of the way, for messages.
        way: how to read.
        job: what to read.

    Attributes:
        first_batch: seconds from nothing but imported modules to the first batch.
        cpu: seconds of all cores, for each epoch read, children included.
    """

    def __init__(self, name: str, way: Way, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, way, job), name=name)
        self._process.start()
        theirs.close()
        self._pid = self._process.pid or 0
        self.cpu: list[float] = []
        self.first_batch = 0.0
        self._peak = (0, 0)

    def ready(self) -> None:
        """Waits until the process has imported what it needs."""
        self._answer()

    def open(self) -> None:
        """Opens the images and reads an epoch."""
        with peak_of(self._pid) as opening:
            self.first_batch = float(self._ask("open"))
        self._peak = opening()

    def check(self) -> None:
        """Raises AssertionError unless every image is read as often as wanted, and rightly."""
        self._ask("check")

    def read(self) -> None:
        """Reads an epoch."""
        before = cpu_seconds(self._pid)
        self._ask("read")
        self.cpu.append(cpu_seconds(self._pid) - before)

    def peak_mb(self) -> float:
        """Megabytes at most beyond imported modules, children included, while opened and read.

        Memory that several processes share counts once, mapped files (libraries) not at all.
        """
        with peak_of(self._pid) as reading:
            self._ask("read")
        before, highest = self._peak
        return (max(highest, reading()[1]) - before) / 1e6

    def waiting(self, step: float) -> float | None:
        """Share of the time after the first batch that is spent waiting for the next one.

        Args:
            step: seconds that each batch is used for, without a core.
        """
        return self._ask("wait", step)

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, request: str, *values: object) -> Any:
        self._pipe.send((request, *values))
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except EOFError as error:
            raise RuntimeError(f"{self._name}: its process has died") from error
        if kind == "wrong":
            raise AssertionError(f"{self._name}: {value}")
        if kind == "failed":
            raise RuntimeError(f"{self._name}: {value}")
        return value


def _serve(pipe: Connection, way: Way, job: Job) -> None:
    served = _Served(way, job)
    request, values = "ready", ()
    while True:
        try:
            pipe.send(("done", getattr(served, request)(*values)))
        except AssertionError as error:
            pipe.send(("wrong", str(error)))
        except Exception:  # it would be lost with the process
            pipe.send(("failed", traceback.format_exc()))
        try:
            request, *values = pipe.recv()
        except EOFError:
            return


class _Served:
    """What the process does, request by request."""

    def __init__(self, way: Way, job: Job) -> None:
        self._way, self._job = way, job
        self._epoch: Epoch = lambda: iter(())

    def ready(self) -> None:
        for module in self._way.modules:
            importlib.import_module(module)

    def open(self) -> float:
        start = time.perf_counter()
        self._epoch = self._way.make(self._job)
        batches = self._epoch()
        next(batches)
        taken = time.perf_counter() - start
        for _ in batches:
            pass
        return taken

    def read(self) -> None:
        read = sum(len(batch.rows) for batch in self._epoch())
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        assert read == self._job.images, f"{read} images instead of {self._job.images}"

    def check(self) -> None:
        whole = self._job.expected_whole if self._way.resized_whole else None
        check(self._epoch(), self._job, np.load(whole or self._job.expected, mmap_mode="r"))

    def wait(self, step: float) -> float | None:
        batches = self._epoch()
        next(batches)
        waited, start = 0.0, time.perf_counter()
        while True:
            time.sleep(step)
            asked = time.perf_counter()
            if next(batches, None) is None:
                return waited / (asked - start)
            waited += time.perf_counter() - asked


def check(batches: Iterable[Read], job: Job, expected: np.ndarray) -> None:
    """Raises AssertionError unless every image comes as often as wanted and as expected.

    Args:
        batches: an epoch.
        job: what was wanted.
        expected: uint8 [n, S, S, 3].
    """
    times = np.zeros(len(expected), dtype=np.int64)
    differences = np.zeros(len(expected))
    for images, labels, row in batches:
        rows = row.numpy()
        assert images.dtype == torch.uint8, f"images are {images.dtype}"
        assert images.shape == (len(rows), 3, job.size, job.size), f"shape {tuple(images.shape)}"
        assert (labels.numpy() == job.labels[rows]).all(), "labels differ"
        np.add.at(times, rows, 1)
        off = images.permute(0, 2, 3, 1).cpu().numpy().astype(np.int16) - expected[rows]
        np.maximum.at(differences, rows, np.abs(off).mean((1, 2, 3)))
    assert (times == job.passes).all(), f"images came {times.min()} to {times.max()} times"
    for name, found, most in zip(
        ("the worst image", "the mean image"),
        (float(differences.max()), float(differences.mean())),
        TOLERANCE,
        strict=True,
    ):
        assert found <= most, f"pixels of {name} are off by {found:.2f}, more than {most}"
