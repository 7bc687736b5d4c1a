"""What students of a condensed file say of images that it may have been made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gencond_fast.config import EvaluateConfig
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.cache_policy import CachePolicy
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.source import Source
from gencond_fast.data.stream import stream
from gencond_fast.errors import RunError
from gencond_fast.evaluation.lira import confidences
from gencond_fast.evaluation.student_runner import StudentRunner
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier, model_identity
from gencond_fast.store.artifact import FILE_NAME, load
from gencond_fast.system.cache import cache_directory, cache_key, load_tensors, save_tensors
from gencond_fast.system.progress import Phase, Reporter
from gencond_fast.system.rng import derive_seed
from gencond_fast.system.runtime import Runtime
from gencond_fast.training.protocol import Protocol

_BATCH = 512


@dataclass(frozen=True, eq=False)
class QuerySet:
    """The images that are asked about, classes in the same shares, to rounding, of both kinds.

    Attributes:
        members: ascending int64 rows of the training split.
        others: ascending int64 rows of the validation split.
    """

    members: np.ndarray
    others: np.ndarray


def asked_images(source: Source, images: int) -> QuerySet:
    """Chooses at most so many of either kind, random ones.

    Of the validation split as many of each class as can be; of the training split as many as the
    rarest class, measured by those, allows. Were the shares of classes others, to know the class
    of an image would be to know something about its membership.

    Args:
        source: with a validation split.
        images: the most of either kind.
    """
    assert source.val is not None
    classes = len(source.class_names)
    rank = _rank(source.val, "asked others")
    others = np.lexsort((source.val.labels, rank))[: min(images, int((rank < np.inf).sum()))]
    wanted = np.bincount(source.val.labels[others], minlength=classes)
    rank = _rank(source.train, "asked members")
    there = np.bincount(source.train.labels[rank < np.inf], minlength=classes)
    share = min(images / len(others), float((there[wanted > 0] / wanted[wanted > 0]).min()))
    most = np.where(wanted > 0, np.maximum(1, np.floor(wanted * share + 1e-9)), 0)
    return QuerySet(np.flatnonzero(rank < most[source.train.labels]), np.sort(others))


def _rank(images: ImageReader, purpose: str) -> np.ndarray:
    """The place of each image in a random order of its class; infinite for those left out."""
    good = ~images.left_out(np.arange(len(images)))
    rank = np.full(len(images), np.inf)
    rank[good] = shuffled_rank(images.labels[good], derive_seed(0, purpose) % 2**32)
    return rank


class MembershipQueries:
    """Trains students on condensed files and asks them about the same real images.

    Answers are kept in the cache, so what was interrupted goes on after the last student.

    Args:
        config: how students are trained; the first of its models is taken.
        source: the data set.
        asked: the images.
        runtime: device, precision, compilation.
        protocol: how students are trained.
        image_size: S, that of the file.
        reporter: told what is held in memory.

    Raises:
        InputError: there is no such network for these images.
    """

    def __init__(
        self,
        config: EvaluateConfig,
        source: Source,
        asked: QuerySet,
        runtime: Runtime,
        protocol: Protocol,
        image_size: int,
        reporter: Reporter,
    ) -> None:
        self._config = config
        self._source = source
        self._asked = asked
        self._runtime = runtime
        self._protocol = protocol
        self._form = Form(source.channels, image_size)
        self._reporter = reporter
        # refused at once, not after the first condensation
        build_classifier(
            config.models[0], source.channels, len(source.class_names), image_size, seed=0
        )

    def keep_images(self) -> None:
        """Lets the images be decoded once, if they fit into memory.

        Raises:
            InputError: they are to be kept and there is too little memory.
        """
        policy = CachePolicy(self._config.in_memory, self._reporter.message)
        source, form, asked = self._source, self._form, self._asked
        assert source.val is not None
        train = policy.keep(source.train, form, asked.members, "training images asked about")
        val = policy.keep(source.val, form, asked.others, "test images asked about")
        self._source = replace(source, train=train, val=val)

    def confidences(self, run: str | Path, seed: int, progress: Phase) -> np.ndarray:
        """Confidences of a student of a file in all images, members first, as they are asked.

        Args:
            run: run directory or condensed file.
            seed: of the student.
            progress: advanced by an epoch at a time.

        Returns:
            float64 [n + m]; NaN stands for images that were left out as undecodable.

        Raises:
            InputError: the file or an image cannot be read.
            RunError: the student diverged.
            OSError: the cache cannot be written.
        """
        path = cache_directory("answers") / f"{self._key(Path(run), seed)}.safetensors"
        found = load_tensors(path)
        if found is not None:
            progress.advance(self._config.epochs)
            return found["confidence"].numpy()
        values = self._ask(run, seed, progress)
        save_tensors(path, {"confidence": torch.from_numpy(values)})
        return values

    def _ask(self, run: str | Path, seed: int, progress: Phase) -> np.ndarray:
        artifact = load(run)
        bench = StudentRunner(self._config, artifact, self._source, self._runtime, self._protocol)
        model = self._config.models[0]
        (student,), _ = bench.students(
            bench.sets.condensed(), model, [seed], self._config.epochs, progress
        )
        assert self._source.val is not None
        splits = ((self._source.train, self._asked.members), (self._source.val, self._asked.others))
        normalisation = bench.sets.normalisation
        parts = [
            _confidences(student, split, rows, self._form, normalisation, self._runtime)
            for split, rows in splits
        ]
        return np.concatenate(parts)

    def _key(self, run: Path, seed: int) -> str:
        """Everything that the answers of a student depend on."""
        file = run / FILE_NAME if run.is_dir() else run
        asked = (self._asked.members.tobytes(), self._asked.others.tobytes())
        return cache_key(
            kind="answers",
            file=hashlib.sha256(file.read_bytes()).hexdigest(),
            asked=[hashlib.sha256(each).hexdigest() for each in asked],
            data=self._source.fingerprint,
            **self._source.test_identity,
            left_out=self._source.left_out,
            decoder=self._source.decoder,
            protocol=self._protocol.cache_parts(),
            epochs=self._config.epochs,
            model=model_identity(self._config.models[0]),
            seed=seed,
            runtime=self._runtime.describe(),
        )


@torch.no_grad()
def _confidences(
    student: Classifier,
    split: ImageReader,
    rows: np.ndarray,
    form: Form,
    normalisation: Normalisation,
    runtime: Runtime,
) -> np.ndarray:
    """Of a split's images at `rows`, one query each, without augmentation: float64 [n].

    In float32 whatever the precision of the runtime: rounding would make ties.
    """
    student.eval()
    found = np.full(len(rows), np.nan)
    for batch in stream(
        split, channels=form.channels, image_size=form.size, batch_size=_BATCH, indices=rows
    ):
        images = normalisation(batch.images.to(runtime.device))
        values = confidences(student(runtime.arrange(images)), batch.labels.to(runtime.device))
        if not values.isfinite().all():
            raise RunError("a student gave a logit that is not finite: lower the rate of learning")
        found[np.searchsorted(rows, batch.indices.numpy())] = values.cpu().numpy()
    return found
