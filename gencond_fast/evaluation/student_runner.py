"""The students of one evaluation, and what they score."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from gencond_fast.config import EvaluateConfig
from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.cache_policy import CachePolicy
from gencond_fast.data.source import Source
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.evaluation.attacks import require_autoattack
from gencond_fast.evaluation.baseline_cache import BaselineCache, Outcome
from gencond_fast.evaluation.result import CONDENSED, Row
from gencond_fast.evaluation.robustness import attacked_rows, robust_accuracies
from gencond_fast.evaluation.student_epochs import student_epochs
from gencond_fast.evaluation.training_sets import TrainingSet, TrainingSets, random_rows
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, model_identity
from gencond_fast.store.artifact import Artifact
from gencond_fast.system.progress import Phase
from gencond_fast.system.rng import derive_seed
from gencond_fast.system.runtime import Runtime
from gencond_fast.training.mixed import LabelViews
from gencond_fast.training.protocol import Protocol
from gencond_fast.training.train import accuracy, train_students


def with_image_cache(
    config: EvaluateConfig, artifact: Artifact, source: Source, tell: Callable[[str], None]
) -> Source:
    """The data set with caches for the images that several students are taught or tested with.

    Args:
        config: the students.
        artifact: the condensed file.
        source: the data set.
        tell: called with a line about each set of images.

    Raises:
        InputError: `in_memory` is `on` and there is too little memory.
    """
    train, val = source.train, source.val
    assert val is not None
    form = Form(source.channels, artifact.metadata.store.image_size)
    policy = CachePolicy(config.in_memory, tell)
    names = [name for name, _ in config.training_sets]
    baselines = len(config.models) * names.count("random")
    if len(config.models) * len(names) * config.seeds > 1:
        val = policy.keep(val, form, np.arange(len(val)), "validation images")
    if "full" in names:
        train = policy.keep(train, form, np.arange(len(train)), "training images")
    elif baselines:
        drawn = random_rows(artifact, source, config.seeds)
        rows, times = np.unique(drawn, return_counts=True)
        train = policy.keep(train, form, rows[baselines * times > 1], "training images")
    return replace(source, train=train, val=val)


class StudentRunner:
    """Everything that the rows of one evaluation share.

    Attributes:
        sets: what students learn from.
        waiting: for the images of the tests, and of all training images.
        remembered: the students of baselines that earlier evaluations have trained.
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
        self.waiting = DataTimer()
        self.sets = TrainingSets(config, artifact, source, protocol, runtime.device, self.waiting)
        self._normalisation = self.sets.normalisation
        self._names = artifact.metadata.class_names
        self._labeller = self._label_views = None
        if protocol.soft and artifact.labeller is not None:
            self._labeller = runtime.place(artifact.labeller.network)
            self._label_views = self._views(runtime.compile(self._labeller.forward))
        self.remembered = BaselineCache(self._identity())
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
        left_out = self._source.val.left_out(self._attacked)
        return len(self._attacked) - int(left_out.sum())

    def rows(self, sets: list[TrainingSet], progress: Phase, ranks: Ranks) -> tuple[Row, ...]:
        """Trains and tests one student of each set, model and seed, dealt out to the ranks.

        Those of baselines may have been trained before.
        """
        count = self._config.seeds
        pairs = [(each, model) for each in sets for model in self._config.models]
        own: list[Outcome] = []
        for place, pair in enumerate(pairs):
            own += self._outcomes(*pair, self._seeds_here(place, ranks), progress)
        dealt = ranks.all_gather_object([asdict(each) for each in own])
        self.remembered.share(ranks)
        places = range(count * len(pairs))
        outcomes = [Outcome(**dealt[i % ranks.world_size][i // ranks.world_size]) for i in places]
        groups = [outcomes[i : i + count] for i in places[::count]]
        return tuple(self._row(*pair, group) for pair, group in zip(pairs, groups, strict=True))

    def _outcomes(
        self, training_set: TrainingSet, model: str, seeds: Sequence[int], progress: Phase
    ) -> list[Outcome]:
        """What the students of these seeds score, one after another or so many at once."""
        known = self._known(training_set, model, seeds)
        if known:
            progress.advance(self.epochs_of(training_set) * len(known))
        missing = [seed for seed in seeds if seed not in known]
        for start in range(0, len(missing), self._config.parallel_students):
            group = missing[start : start + self._config.parallel_students]
            known |= self._train(training_set, model, group, progress)
        return [known[seed] for seed in seeds]

    def epochs_of(self, training_set: TrainingSet) -> int:
        """How long students of this training set learn."""
        batch = self._protocol.batch_size
        steps = math.ceil(int(training_set.class_sizes.sum()) / batch)
        return student_epochs(self._config, steps, math.ceil(self.sets.condensed_images / batch))

    def epochs_here(self, sets: Sequence[TrainingSet], ranks: Ranks) -> int:
        """Epochs of all students that `rows` trains on this rank."""
        return sum(
            self.epochs_of(each) * len(self._seeds_here(place, ranks))
            for place, (each, _) in enumerate(itertools.product(sets, self._config.models))
        )

    def _seeds_here(self, place: int, ranks: Ranks) -> list[int]:
        """The seeds of a training set and architecture that fall to this rank."""
        count = self._config.seeds
        return [s for s in range(count) if (place * count + s) % ranks.world_size == ranks.rank]

    def _row(self, training_set: TrainingSet, model: str, outcomes: list[Outcome]) -> Row:
        sizes = training_set.class_sizes
        return Row(
            training_set.name,
            model,
            training_set.images_per_class,
            tuple(each.accuracy for each in outcomes),
            sum(each.seconds for each in outcomes),
            outcomes[-1].steps,
            {name: tuple(o.attacked[name] for o in outcomes) for name in outcomes[0].attacked},
            training_set.augmented,
            self.epochs_of(training_set),
            int(sizes.min()),
            int(sizes.max()),
            training_set.quality,
        )

    def labeller_accuracy(self) -> float | None:
        """What the file's labeller scores by itself; None where students do not learn from it."""
        if self._labeller is None:
            return None
        return accuracy(
            self._views(self._labeller),  # once, which would not repay another compilation
            self._source,
            self._spec.image_size,
            self._normalisation,
            self._runtime,
            self.waiting,
        )

    def _views(self, forward: Callable[[Tensor], Tensor]) -> LabelViews:
        """Probabilities by the labeller, whose logits `forward` gives, of classes to be learned."""
        runtime = self._runtime
        number = {name: label for label, name in enumerate(self._names)}
        columns = torch.tensor([number[name] for name in self._source.class_names])
        columns = columns.to(runtime.device)

        @torch.no_grad()
        def label(images: Tensor) -> Tensor:
            with runtime.autocast():
                logits = forward(runtime.arrange(images))
            return logits.float()[:, columns].softmax(1)

        return label

    def _known(
        self, training_set: TrainingSet, model: str, seeds: Sequence[int]
    ) -> dict[int, Outcome]:
        """What students scored in earlier evaluations, by their seeds."""
        if training_set.name in CONDENSED:
            return {}
        found = {
            seed: self.remembered.find(training_set.name, **self._parts(training_set, model, seed))
            for seed in seeds
        }
        return {seed: outcome for seed, outcome in found.items() if outcome is not None}

    def students(
        self,
        training_set: TrainingSet,
        model: str,
        seeds: Sequence[int],
        epochs: int,
        progress: Phase,
    ) -> tuple[list[Classifier], int]:
        """Trains students, at once where they can be; and the number of optimiser steps of each."""
        students = [
            self._runtime.place(self._student(model, derive_seed(seed, "student", model)))
            for seed in seeds
        ]
        steps = train_students(
            students,
            [training_set.draw(seed) for seed in seeds],
            protocol=self._protocol_of(training_set),
            epochs=epochs,
            seeds=[derive_seed(seed, "training", model) for seed in seeds],
            runtime=self._runtime,
            advance=progress.advance,
            label_views=self._label_views if training_set.name in CONDENSED else None,
        )
        return students, steps

    def _train(
        self, training_set: TrainingSet, model: str, seeds: Sequence[int], progress: Phase
    ) -> dict[int, Outcome]:
        """Trains some students and tests them."""
        start = time.perf_counter()
        epochs = self.epochs_of(training_set)
        students, steps = self.students(training_set, model, seeds, epochs, progress)
        training = (time.perf_counter() - start) / len(seeds)
        return {
            seed: self._test(student, training_set, model, seed, steps, training, progress)
            for seed, student in zip(seeds, students, strict=True)
        }

    def _test(
        self,
        student: Classifier,
        training_set: TrainingSet,
        model: str,
        seed: int,
        steps: int,
        training: float,
        progress: Phase,
    ) -> Outcome:
        """Tests a student that took so many steps and seconds, and remembers a baseline's."""
        start = time.perf_counter()
        share = accuracy(
            student,
            self._source,
            self._spec.image_size,
            self._normalisation,
            self._runtime,
            self.waiting,
        )
        attacked = self._attack(student, model, seed, progress)
        outcome = Outcome(share, attacked, steps, training + time.perf_counter() - start)
        if training_set.name not in CONDENSED:
            parts = self._parts(training_set, model, seed)
            self.remembered.keep(outcome, training_set.name, **parts)
        return outcome

    def _attack(
        self, student: Classifier, model: str, seed: int, progress: Phase
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
        """What every student of a baseline depends on, beside its own parts."""
        config, source = self._config, self._source
        return {
            "data": source.fingerprint,
            **source.test_identity,
            "left_out": source.left_out,
            "decoder": source.decoder,
            "classes": source.class_names,
            "image_size": self._spec.image_size,
            "channels": self._spec.channels,
            "normalisation": asdict(self._normalisation),
            "attack": asdict(config.attack) if config.attack.names else None,
            "runtime": self._runtime.describe(),
        }

    def _parts(self, training_set: TrainingSet, model: str, seed: int) -> dict[str, object]:
        """What tells the students of a baseline from one another."""
        protocol = replace(self._protocol_of(training_set), name="", soft=False)
        quality = {} if training_set.quality is None else {"quality": training_set.quality}
        return quality | {
            "images_per_class": training_set.images_per_class,
            "epochs": self.epochs_of(training_set),
            "protocol": protocol.cache_parts(),
            "model": model_identity(model),
            "seed": seed,
        }

    def _protocol_of(self, training_set: TrainingSet) -> Protocol:
        """How students of this training set learn."""
        protocol = self._protocol
        return protocol if training_set.augmented else protocol.without_augmentation()

    def _student(self, model: str, seed: int) -> Classifier:
        spec, classes = self._spec, len(self._source.class_names)
        return build_classifier(model, spec.channels, classes, spec.image_size, seed=seed)
