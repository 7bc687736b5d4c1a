"""Students of one evaluation, as the program trains them, against plain PyTorch.

The rivals train the same students one after another, eagerly; in float32 that is, bit for bit, the
loop that one would write by hand (tests/training/test_protocols.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.case import Case
from benchmarks.timing import Timing
from gencond_fast.config import Device
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import open_source
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.runtime import Runtime, choose_runtime
from gencond_fast.training.epochs import Epochs, held
from gencond_fast.training.protocol import PROTOCOLS, Protocol
from gencond_fast.training.train import train_students

_MEMORY = 2 * 1024**3
_TOLERANCE = 1e-2  # of how far the logits went in an epoch, float32


def cases(
    data: str,
    ipc: int,
    models: Sequence[str],
    protocol: str,
    students: int,
    epochs: int,
    device: Device,
) -> Iterator[Case]:
    """Students of each architecture.

    Args:
        data: path or name of the data set, of which random real images are learned.
        ipc: images a class.
        models: architectures.
        protocol: of the training.
        students: with other images each.
        epochs: in a call, of the first ones of a training.
        device: where.
    """
    for model in models:
        lesson = _Lesson(data, ipc, model, PROTOCOLS[protocol], students, epochs)
        size = lesson.image_size
        chosen = choose_runtime(device, "auto", "auto", size)
        single = choose_runtime(device, "float32", "off", size)
        half = choose_runtime(device, "bfloat16", "off", size)
        calls: dict[str, Callable[[], object]] = {
            "gencond_fast": partial(lesson.train, chosen, 1),
            f"gencond_fast, {students} together": partial(lesson.train, chosen, students),
            "eager float32": partial(lesson.train, single, 1),
            "eager bfloat16": partial(lesson.train, half, 1),
            f"eager float32, {students} together": partial(lesson.train, single, students),
        }
        lesson.check(choose_runtime(device, "float32", "auto", size), single)
        first = {name: _seconds(call) for name, call in calls.items()}
        key = {
            "data": Path(data).name,
            "ipc": ipc,
            "model": model,
            "protocol": protocol,
            "students": students,
            "epochs": epochs,
        }
        yield Case(key, calls, measure=partial(_measure, first, students * epochs * lesson.steps))


class _Lesson:
    """What students learn from."""

    def __init__(
        self, data: str, ipc: int, model: str, protocol: Protocol, students: int, epochs: int
    ) -> None:
        source = open_source(data)
        self._source, self._model, self._protocol = source, model, protocol
        self._students, self._epochs = students, epochs
        self.image_size = source.native_size
        self._samples = [
            draw_sample(
                source, image_size=self.image_size, per_class=ipc, max_bytes=_MEMORY, seed=seed
            )
            for seed in range(students)
        ]
        self._normalisation = Normalisation((0.5,) * source.channels, (0.25,) * source.channels)
        self.steps = self._data("cpu")[0].steps

    def train(self, runtime: Runtime, together: int) -> list[Classifier]:
        """All students from scratch, so many at once."""
        students = [runtime.place(self._build(seed)) for seed in range(self._students)]
        data = self._data(runtime.device)
        for start in range(0, self._students, together):
            stop = start + together
            train_students(
                students[start:stop],
                data[start:stop],
                seeds=range(start, stop),
                protocol=self._protocol,
                epochs=self._epochs,
                runtime=runtime,
                advance=lambda epochs: None,
            )
        return students

    def check(self, runtime: Runtime, plain: Runtime) -> None:
        """Raises AssertionError unless students in float32 come out as those of plain PyTorch."""
        images = self._normalisation(self._samples[0].images[:64].to(runtime.device))
        before = _logits(self._build(0).to(runtime.device), images)
        want = _logits(self.train(plain, 1)[0], images)
        for together in (1, self._students):
            got = _logits(self.train(runtime, together)[0], runtime.arrange(images))
            off = float((got - want).norm() / (want - before).norm())
            assert off <= _TOLERANCE, f"{together} at once: off by {off:.1e} of their way"

    def _build(self, seed: int) -> Classifier:
        source = self._source
        classes = len(source.class_names)
        return build_classifier(self._model, source.channels, classes, self.image_size, seed=seed)

    def _data(self, device: torch.device | str) -> list[Epochs]:
        made = []
        for sample in self._samples:
            images = self._normalisation(sample.images.to(device))
            labels = sample.labels.to(device)
            made.append(held(partial(_same, images), labels, self._protocol))
        return made


@torch.no_grad()
def _logits(network: Classifier, images: Tensor) -> Tensor:
    logits: Tensor = network.eval()(images)
    return logits


def _same(images: Tensor, epoch: int) -> Tensor:
    """Images that are those of every epoch."""
    return images


def _measure(
    first: Mapping[str, float], steps: int, timings: Mapping[str, Timing]
) -> dict[str, dict[str, float | None]]:
    """How long a step takes, and what the first call takes more than later ones."""
    return {
        name: {
            "step_ms": timing.median / steps,
            "start_s": max(0.0, first[name] - timing.median / 1e3),
        }
        for name, timing in timings.items()
    }


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
