"""An evaluation: condensed set and controls, architectures, seeds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as validated
from torch import Tensor

from gencond_fast.artifact import Artifact, load
from gencond_fast.budget import bits_per_class, bytes_to_ipc
from gencond_fast.config import Count, EvaluateConfig, Fraction
from gencond_fast.data.batch import Form
from gencond_fast.data.classes import MissingClass, find_classes
from gencond_fast.data.kept import Keeping
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.sample import draw_sample, sample_rows
from gencond_fast.data.source import Source, open_source
from gencond_fast.data.waiting import Waiting
from gencond_fast.environment import describe
from gencond_fast.errors import InputError
from gencond_fast.evaluation.epochs import Epoch, held, streamed
from gencond_fast.evaluation.protocol import DC, Protocol
from gencond_fast.evaluation.result import EvaluationResult, Row
from gencond_fast.evaluation.train import accuracy, train_student
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier
from gencond_fast.options import parse
from gencond_fast.progress import Reporter
from gencond_fast.progress import Task as Progress
from gencond_fast.rng import derive_seed, named_rng
from gencond_fast.runtime import Runtime, choose_runtime

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
    draw: Callable[[int], Epoch]


def evaluate(config: EvaluateConfig, reporter: Reporter | None = None) -> EvaluationResult:
    """Trains students from scratch on a condensed set and on controls, and tests them.

    Args:
        config: all options.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the file, the data or an option cannot be used.
        RunError: a student diverged.
    """
    reporter = reporter or Reporter()
    artifact = load(config.run)
    source = _open_test(config, artifact, reporter)
    # the choice of classes is part of the fingerprint
    if config.classes is None and source.fingerprint != artifact.metadata.made.get("data"):
        # times of modification count, so a copy of the same files may differ too
        reporter.message(
            f"note: {config.data} is not, file for file, the data of the condensation; a part that "
            "was set apart then may not be the part tested on now"
        )
    spec = artifact.metadata.store
    runtime = choose_runtime(config.device, config.precision, config.compile, spec.image_size)
    bench = _Bench(config, artifact, source, runtime, DC)
    bench.keep_images(reporter.message)
    total = (1 + len(config.controls)) * len(config.models) * config.seeds * config.epochs
    with reporter.task("students", total) as progress:
        sets = [bench.condensed(), *(bench.control(name, progress) for name in config.controls)]
        rows = tuple(bench.row(each, model, progress) for each in sets for model in config.models)
    bench.waiting.tell(reporter.message)
    source.tell_left_out(reporter.message)
    shape = (spec.num_classes, spec.channels, spec.image_size)
    ipc = bytes_to_ipc(artifact.size, *shape)
    return EvaluationResult(
        rows=rows,
        protocol=asdict(DC),
        epochs=config.epochs,
        bytes=artifact.size,
        ipc=ipc,
        ipc_uint8=4 * ipc,
        bits_per_class=bits_per_class(artifact.size, spec.num_classes),
        test_images=_tested(source),
        environment=describe() | {"runtime": runtime.describe()},
    )


@validated(frozen=True, config=ConfigDict(extra="ignore"))
class _Split:
    """What the file says about how the data was split, where that was not the default."""

    val_fraction: Fraction | None = None
    seed: Count = 0


class _Bench:
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
        self._source = source
        self._runtime = runtime
        self._protocol = protocol
        self._index, self._labels = _chosen_samples(artifact, source.class_names, runtime.device)
        self._normalisation = Normalisation(artifact.metadata.mean, artifact.metadata.std)
        self.waiting = Waiting()
        for model in config.models:
            self._student(model, seed=0)

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
        for seed in range(self._config.seeds):
            epoch_of = training_set.draw(seed)
            student = self._runtime.place(self._student(model, derive_seed(seed, "student", model)))
            train_student(
                student,
                epoch_of,
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
        seconds = time.perf_counter() - start
        size = training_set.images_per_class
        return Row(training_set.name, model, size, tuple(accuracies), seconds)

    def condensed(self) -> TrainingSet:
        """The file's own images: always the same, or fresh ones every epoch."""
        index, labels = self._index, self._labels

        def draw(seed: int) -> Epoch:
            if self._config.split == "stream":
                return self._held(
                    labels, lambda epoch: self._decode(index, named_rng(seed, "fresh", epoch))
                )
            stored = self._decode(index, None)
            return self._held(labels, lambda epoch: stored)

        return TrainingSet(self._config.split, self._spec.per_class, draw)

    def control(self, name: str, progress: Progress) -> TrainingSet:
        """The training set of one of the controls; `full` shows how far its epochs are."""
        return self.full(progress) if name == "full" else self.random()

    def random(self) -> TrainingSet:
        """As many random real images as the budget is in IPC; other ones for every seed."""

        def draw(seed: int) -> Epoch:
            sample = draw_sample(self._source, **self._control(seed))
            images = self._normalisation(sample.images.to(self._runtime.device))
            return self._held(sample.labels, lambda epoch: images)

        return TrainingSet("random", self._control(0)["per_class"], draw)

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

        def draw(seed: int) -> Epoch:
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

    def _held(self, labels: Tensor, images_of: Callable[[int], Tensor]) -> Epoch:
        return held(images_of, labels.to(self._runtime.device), self._protocol)

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


def _tested(source: Source) -> int:
    """Images of the validation split, less those that are left out."""
    assert source.val is not None
    return len(source.val) - len(source.val.skipping or ())


def _open_test(config: EvaluateConfig, artifact: Artifact, reporter: Reporter) -> Source:
    """The data set, split as it was for the condensation, with the classes of the file."""
    options = artifact.metadata.made.get("options", {})
    split = parse(_Split, options if isinstance(options, dict) else {})
    classes = _chosen_classes(config, artifact)
    try:
        source = open_source(
            config.data,
            val_fraction=split.val_fraction,
            seed=split.seed,
            classes=classes,
            in_given_order=True,
            on_bad_image=config.on_bad_image,
            reader=config.reader,
            device=config.device,
            tell=reporter.message,
        )
    except MissingClass as error:
        raise InputError(
            f"{config.data} has other classes than {config.run}, which has {error.name!r}: "
            "give the data that it was condensed from"
        ) from None
    if source.val is None:
        raise InputError(
            f"{config.data} has no validation split to test on: condense with --val-fraction 0.1, "
            "which sets a part of the data apart for it"
        )
    if not len(source.val):
        raise InputError(f"{config.data} has no test image of any class of {config.run}")
    if config.classes is not None and source.channels == 1:
        # some classes of a colour set may well be gray
        source = replace(source, channels=artifact.metadata.store.channels)
    if source.channels != artifact.metadata.store.channels:
        raise InputError(
            f"{config.data} has images of {source.channels} channel(s), {config.run} has "
            f"{artifact.metadata.store.channels}: give the data that it was condensed from"
        )
    return source


def _chosen_classes(config: EvaluateConfig, artifact: Artifact) -> list[str]:
    """The classes of the file, or those of them that are asked for, in the order of the file."""
    names = artifact.metadata.class_names
    if config.classes is None:
        return list(names)
    return [names[label] for label in sorted(find_classes(config.classes, names, None, config.run))]
