"""The students of one evaluation: what they learn from, and what they score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.artifact import Artifact
from gencond_fast.budget import bytes_to_ipc
from gencond_fast.config import EvaluateConfig
from gencond_fast.data.batch import Form
from gencond_fast.data.kept import Keeping
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.sample import draw_sample, sample_rows
from gencond_fast.data.source import Source
from gencond_fast.data.waiting import Waiting
from gencond_fast.errors import InputError
from gencond_fast.evaluation.attacks import require_autoattack
from gencond_fast.evaluation.epochs import Epochs, held, streamed
from gencond_fast.evaluation.jpegs import fit_jpegs
from gencond_fast.evaluation.protocol import Protocol
from gencond_fast.evaluation.result import Row
from gencond_fast.evaluation.robustness import attacked_rows, robust_accuracies
from gencond_fast.evaluation.train import accuracy, train_student
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier
from gencond_fast.progress import Task as Progress
from gencond_fast.rng import derive_seed, named_rng
from gencond_fast.runtime import Runtime

_CONTROL_BYTES = 2 * 1024**3
_DECODE_BATCH = 128


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What students learn from.

    Attributes:
        name: in tables.
        images_per_class: its size.
        draw: gives its epochs for a seed.
    """

    name: str
    images_per_class: int
    draw: Callable[[int], Epochs]


class Bench:
    """Everything that the rows of one evaluation share.

    Attributes:
        waiting: for the images of the tests, and of all training images.
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
        self._store = artifact.store.to(runtime.device)
        self._spec = artifact.metadata.store
        self._budget = artifact.metadata.budget
        self._bytes = artifact.size
        self._source = source
        self._runtime = runtime
        self._protocol = protocol
        self._index, labels = _chosen_samples(artifact, source.class_names, runtime.device)
        self._targets = labels
        if protocol.soft:
            self._targets = _soft_targets(artifact, source.class_names, self._index, labels)
        self._normalisation = Normalisation(artifact.metadata.mean, artifact.metadata.std)
        self.waiting = Waiting()
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
            drawn = [sample_rows(source, **self._control(seed)) for seed in range(config.seeds)]
            rows, times = np.unique(np.concatenate(drawn), return_counts=True)
            keeping.keep(source.train, form, rows[controls * times > 1], "training images")

    def row(self, training_set: TrainingSet, model: str, progress: Progress) -> Row:
        """Trains and tests one student a seed."""
        start = time.perf_counter()
        accuracies = []
        attacked: dict[str, list[float]] = {}
        for seed in range(self._config.seeds):
            data = training_set.draw(seed)
            student = self._runtime.place(self._student(model, derive_seed(seed, "student", model)))
            steps = train_student(
                student,
                data,
                protocol=self._protocol,
                epochs=self._config.epochs,
                seed=derive_seed(seed, "training", model),
                runtime=self._runtime,
                advance=progress.advance,
            )
            accuracies.append(
                accuracy(
                    student,
                    self._source,
                    self._spec.image_size,
                    self._normalisation,
                    self._runtime,
                    self.waiting,
                )
            )
            for name, share in self._attack(student, model, seed, progress).items():
                attacked.setdefault(name, []).append(share)
        seconds = time.perf_counter() - start
        size = training_set.images_per_class
        return Row(
            training_set.name,
            model,
            size,
            tuple(accuracies),
            seconds,
            steps,
            {name: tuple(shares) for name, shares in attacked.items()},
        )

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

    def condensed(self) -> TrainingSet:
        """The file's own images: always the same, or fresh ones every epoch."""
        index, targets = self._index, self._targets

        def draw(seed: int) -> Epochs:
            if self._config.split == "stream":
                return self._held(
                    targets, lambda epoch: self._decode(index, named_rng(seed, "fresh", epoch))
                )
            stored = self._decode(index, None)
            return self._held(targets, lambda epoch: stored)

        return TrainingSet(self._config.split, self._spec.per_class, draw)

    def control(self, name: str, progress: Progress) -> TrainingSet:
        """The training set of one of the controls; `full` shows how far its epochs are."""
        if name == "jpeg":
            return self.jpeg()
        return self.full(progress) if name == "full" else self.random()

    def random(self) -> TrainingSet:
        """As many random real images as the budget is in IPC; other ones for every seed."""

        def draw(seed: int) -> Epochs:
            sample = draw_sample(self._source, **self._control(seed))
            images = self._normalisation(sample.images.to(self._runtime.device))
            return self._held(sample.labels, lambda epoch: images)

        return TrainingSet("random", self._control(0)["per_class"], draw)

    def jpeg(self) -> TrainingSet:
        """As many random real images as fit into the bytes of the file as JPEG.

        Of fewer classes, into their share of the bytes. Every seed has other images, but as many.

        Raises:
            InputError: not one of each class fits.
        """
        classes = len(self._source.class_names)
        max_bytes = self._bytes * classes // self._spec.num_classes
        fitting = [
            fit_jpegs(
                self._source,
                image_size=self._spec.image_size,
                max_bytes=max_bytes,
                max_memory=_CONTROL_BYTES,
                seed=self._control(seed)["seed"],
            )
            for seed in range(self._config.seeds)
        ]
        per_class = min(each.per_class for each in fitting)
        if per_class == 0:
            raise InputError(
                f"{max_bytes:,} bytes are too few for one JPEG of each of {classes} classes: leave "
                "out --control jpeg"
            )

        def draw(seed: int) -> Epochs:
            kept = fitting[seed].first(per_class)
            images = self._normalisation(kept.images().to(self._runtime.device))
            return self._held(kept.labels, lambda epoch: images)

        return TrainingSet("jpeg", per_class, draw)

    def _control(self, seed: int) -> dict[str, int]:
        """Which images the random control of a seed has, as options of `draw_sample`."""
        shape = (self._spec.num_classes, self._spec.channels, self._spec.image_size)
        return {
            "image_size": self._spec.image_size,
            "per_class": max(1, round(bytes_to_ipc(self._budget, *shape))),
            "max_bytes": _CONTROL_BYTES,
            "seed": derive_seed(seed, "random control") % 2**32,
        }

    def full(self, progress: Progress) -> TrainingSet:
        """All real training images, streamed in another order for every seed."""
        train = self._source.train

        def tell(done: int) -> None:
            progress.advance(0, {"images": done} if done else {})

        def draw(seed: int) -> Epochs:
            return streamed(
                self._source,
                self._spec.image_size,
                self._normalisation,
                self._protocol,
                seed=derive_seed(seed, "full control"),
                device=self._runtime.device,
                tell=tell,
                waiting=self.waiting,
            )

        return TrainingSet("full", round(len(train) / len(self._source.class_names)), draw)

    def _held(self, targets: Tensor, images_of: Callable[[int], Tensor]) -> Epochs:
        return held(images_of, targets.to(self._runtime.device), self._protocol)

    @torch.no_grad()
    def _decode(self, index: Tensor, rng: torch.Generator | None) -> Tensor:
        parts = [
            self._normalisation(self._store(i) if rng is None else self._store.fresh(i, rng))
            for i in index.split(_DECODE_BATCH)
        ]
        return torch.cat(parts)

    def _student(self, model: str, seed: int) -> Classifier:
        spec, classes = self._spec, len(self._source.class_names)
        return build_classifier(model, spec.channels, classes, spec.image_size, seed=seed)


def _chosen_samples(
    artifact: Artifact, class_names: tuple[str, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The stored samples of the classes, and their labels among them: int64 [n] each."""
    number = {name: label for label, name in enumerate(class_names)}
    new = torch.tensor([number.get(name, -1) for name in artifact.metadata.class_names])
    index = torch.arange(artifact.metadata.store.samples, device=device)
    labels = new.to(device)[artifact.store.labels(index)]
    return index[labels >= 0], labels[labels >= 0]


def _soft_targets(
    artifact: Artifact, class_names: tuple[str, ...], index: Tensor, labels: Tensor
) -> Tensor:
    """The stored probabilities float32 [n, C'] of samples, shared among the classes asked for.

    A sample without any probability of these keeps its hard label.
    """
    names = artifact.metadata.class_names
    place = {name: column for column, name in enumerate(names)}
    columns = torch.tensor([place[name] for name in class_names], device=index.device)
    parts = [artifact.store.targets(part)[:, columns] for part in index.split(_DECODE_BATCH)]
    kept = torch.cat(parts)
    total = kept.sum(1, keepdim=True)
    return torch.where(total > 0, kept / total, F.one_hot(labels, len(columns)).float())
