"""From a few steps of students to what an evaluation takes."""

from __future__ import annotations

import math

from gencond_fast.config import EvaluateConfig
from gencond_fast.evaluation.training_sets import holds_decoded
from gencond_fast.planning.condensing import Condensing
from gencond_fast.planning.counts import Counts
from gencond_fast.planning.evaluating import Evaluating, Lesson
from gencond_fast.planning.model import Cost, share
from gencond_fast.training.protocol import PROTOCOLS


class EvaluationModel:
    """The cost of an evaluation on any number of devices.

    Args:
        measured: what a few steps took.
        condensing: of the miniature whose file they learned from.
        config: what is planned.
    """

    def __init__(
        self, measured: Evaluating, condensing: Condensing, config: EvaluateConfig
    ) -> None:
        self._measured, self._config = measured, config
        self._full, self._mini = condensing.full, condensing.mini
        self._reading = condensing.reading or 0.0

    def cost(self, ranks: int) -> Cost:
        """Of the rank with the most students, which are dealt out whole."""
        students = Cost()
        for lesson in self._measured.lessons:
            students += self._students(lesson) + self._tests(lesson)
            if lesson.name != "random" and "full" in self._config.baselines:
                students += self._full_baseline(lesson) + self._tests(lesson)
        working = students.seconds - students.compiling
        own = working * share(self.students, ranks) + self._decoding(ranks)
        # the first student of a kind compiles on every rank
        return Cost(self._measured.start + own + students.compiling, students.compiling)

    @property
    def students(self) -> int:
        """How many there are, of all kinds."""
        models = {lesson.model for lesson in self._measured.lessons}
        return (1 + len(self._config.baselines)) * len(models) * self._config.seeds

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes of the process and of the GPU, at most."""
        full, measured = self._full, self._measured
        tests = max(0, measured.test_kept - measured.tested) * full.image_bytes
        training = measured.whole_kept * full.image_bytes
        # decoded images are float32, held once for a student and once while they are put together
        stored = 2 * 4 * (_held(full) - _held(self._mini)) * full.image_bytes
        return measured.peak + tests + training + stored, measured.device_peak

    def _students(self, lesson: Lesson) -> Cost:
        grown = self._full.samples / self._mini.samples
        drawn = 1
        if lesson.name != "random" and _held(self._mini) and not _held(self._full):
            drawn = self._config.epochs  # decoded in each of them
        each = (drawn * lesson.drawing + self._config.epochs * lesson.epoch) * grown
        seeds = self._config.seeds
        compiling = lesson.first + (seeds - 1) * lesson.later
        return Cost(seeds * each + compiling, compiling)

    def _full_baseline(self, lesson: Lesson) -> Cost:
        """Batches of the same size as those of the file, of all images."""
        full, config = self._full, self._config
        steps = math.ceil(full.images / PROTOCOLS[config.protocol].batch_size)
        compiling = lesson.later * config.seeds
        return Cost(config.seeds * config.epochs * steps * lesson.step + compiling, compiling)

    def _tests(self, lesson: Lesson) -> Cost:
        return Cost(self._config.seeds * self._measured.images * lesson.testing)

    def _decoding(self, ranks: int) -> float:
        """Of test images, and of training images for `full`; once where they are kept."""
        if not self._full.encoded:
            return 0.0
        own = math.ceil(self.students / ranks)
        measured, config = self._measured, self._config
        images = measured.images * (1 if measured.test_kept else own)
        if "full" in config.baselines:
            students = math.ceil(self.students / (1 + len(config.baselines)) / ranks)
            passes = 1 if measured.whole_kept else students * config.epochs
            images += self._full.images * passes
        return images * self._reading


def _held(counts: Counts) -> int:
    """Stored images that are held while a student learns from them."""
    return counts.samples if holds_decoded(counts.samples, counts.image_bytes) else 0
