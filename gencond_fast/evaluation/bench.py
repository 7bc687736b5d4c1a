"""The students of one evaluation, and what they score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from gencond_fast.artifact import Artifact
from gencond_fast.config import EvaluateConfig
from gencond_fast.data.batch import Form
from gencond_fast.data.kept import Keeping
from gencond_fast.data.source import Source
from gencond_fast.data.waiting import Waiting
from gencond_fast.evaluation.attacks import require_autoattack
from gencond_fast.evaluation.protocol import Protocol
from gencond_fast.evaluation.remembered import Outcome, Remembered
from gencond_fast.evaluation.result import CONDENSED, Row
from gencond_fast.evaluation.robustness import attacked_rows, robust_accuracies
from gencond_fast.evaluation.train import accuracy, train_student
from gencond_fast.evaluation.training_sets import TrainingSet, TrainingSets
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, model_identity
from gencond_fast.progress import Task as Progress
from gencond_fast.rng import derive_seed
from gencond_fast.runtime import Runtime

_CONTROL_BYTES = 2 * 1024**3
_DECODE_BATCH = 128


class Bench:
    """Everything that the rows of one evaluation share.

    Attributes:
        sets: what students learn from.
        waiting: for the images of the tests, and of all training images.
        remembered: the students of controls that earlier evaluations have trained.
    """

    def __init__(
        self,
        config: EvaluateConfig,
        artifact: Artifact,
        source: Source,
        runtime: Runtime,
        protocol: Protocol,
    ) -> None:
        self._config = config
        artifact.store.to(runtime.device)
        self._spec = artifact.metadata.store
        self._source = source
        self._runtime = runtime
        self._protocol = protocol
        self.waiting = Waiting()
        self.sets = TrainingSets(config, artifact, source, protocol, runtime.device, self.waiting)
        self._normalisation = self.sets.normalisation
        self.remembered = Remembered(self._identity())
        assert source.val is not None
        self._attacked = attacked_rows(source.val.labels, config.attack.images)
        if "autoattack" in config.attack.names:
            require_autoattack(len(source.class_names))
        for model in config.models:
            self._student(model, seed=0)

    @property
    def attacked_images(self) -> int:
        """How many test images are attacked, less those that are known to be left out."""
        assert self._source.val is not None
        skipping = self._source.val.skipping
        left_out = 0 if skipping is None else int(skipping(self._attacked).sum())
        return len(self._attacked) - left_out

    def keep_images(self, tell: Callable[[str], None]) -> None:
        """Lets those images be kept in memory that several students are taught or tested with.

        Raises:
            InputError: they are to be kept and there is too little memory.
        """
        config, source = self._config, self._source
        assert source.val is not None
        form = Form(source.channels, self._spec.image_size)
        keeping = Keeping(config.in_memory, tell)
        controls = len(config.models) * config.controls.count("random")
        if len(config.models) * (1 + len(config.controls)) * config.seeds > 1:
            keeping.keep(source.val, form, np.arange(len(source.val)), "validation images")
        if "full" in config.controls:
            keeping.keep(source.train, form, np.arange(len(source.train)), "training images")
        elif controls:
            rows, times = np.unique(self.sets.random_rows(), return_counts=True)
            keeping.keep(source.train, form, rows[controls * times > 1], "training images")

    def row(self, training_set: TrainingSet, model: str, progress: Progress) -> Row:
        """Trains and tests one student a seed; those of controls may have been before."""
        outcomes = [
            self._outcome(training_set, model, seed, progress) for seed in range(self._config.seeds)
        ]
        return Row(
            training_set.name,
            model,
            training_set.images_per_class,
            tuple(each.accuracy for each in outcomes),
            sum(each.seconds for each in outcomes),
            outcomes[-1].steps,
            {name: tuple(o.attacked[name] for o in outcomes) for name in outcomes[0].attacked},
        )

    def _outcome(
        self, training_set: TrainingSet, model: str, seed: int, progress: Progress
    ) -> Outcome:
        if training_set.name in CONDENSED:
            return self._train(training_set, model, seed, progress)
        size, identity = training_set.images_per_class, model_identity(model)
        parts = {"images_per_class": size, "model": identity, "seed": seed}
        outcome = self.remembered.find(training_set.name, **parts)
        if outcome is None:
            outcome = self._train(training_set, model, seed, progress)
            self.remembered.keep(outcome, training_set.name, **parts)
        else:
            progress.advance(self._config.epochs)
        return outcome

    def student(
        self, training_set: TrainingSet, model: str, seed: int, progress: Progress
    ) -> tuple[Classifier, int]:
        """Trains one student, and returns it with the number of its optimiser steps."""
        student = self._runtime.place(self._student(model, derive_seed(seed, "student", model)))
        steps = train_student(
            student,
            training_set.draw(seed),
            protocol=self._protocol,
            epochs=self._config.epochs,
            seed=derive_seed(seed, "training", model),
            runtime=self._runtime,
            advance=progress.advance,
        )
        return student, steps

    def _train(
        self, training_set: TrainingSet, model: str, seed: int, progress: Progress
    ) -> Outcome:
        start = time.perf_counter()
        student, steps = self.student(training_set, model, seed, progress)
        share = accuracy(
            student,
            self._source,
            self._spec.image_size,
            self._normalisation,
            self._runtime,
            self.waiting,
        )
        attacked = self._attack(student, model, seed, progress)
        return Outcome(share, attacked, steps, time.perf_counter() - start)

    def _attack(
        self, student: Classifier, model: str, seed: int, progress: Progress
    ) -> dict[str, float]:
        """What a student scores under every attack, if there is any."""
        if not self._config.attack.names:
            return {}
        return robust_accuracies(
            student,
            self._source,
            self._attacked,
            self._spec.image_size,
            self._normalisation,
            self._runtime,
            self._config.attack,
            seed=derive_seed(seed, "attack", model),
            tell=lambda done: progress.advance(0, {"attacked": done}),
            waiting=self.waiting,
        )

    def _identity(self) -> dict[str, object]:
        """What every student of a control depends on, beside its own seed and architecture."""
        config, source = self._config, self._source
        return {
            "data": source.fingerprint,
            "left_out": source.left_out,
            "decoder": source.decoder,
            "classes": source.class_names,
            "image_size": self._spec.image_size,
            "channels": self._spec.channels,
            "normalisation": asdict(self._normalisation),
            "protocol": asdict(replace(self._protocol, name="", soft=False)),
            "epochs": config.epochs,
            "attack": asdict(config.attack) if config.attack.names else None,
            "runtime": self._runtime.describe(),
        }

    def _student(self, model: str, seed: int) -> Classifier:
        spec, classes = self._spec, len(self._source.class_names)
        return build_classifier(model, spec.channels, classes, spec.image_size, seed=seed)
