"""Whether a condensed file, or its way of making, betrays the images that it was made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gencond_fast.condensation.directory import CONFIG_NAME
from gencond_fast.condensation.shadows import condense_shadow, halves
from gencond_fast.config import AuditConfig, Config, EvaluateConfig, run_options
from gencond_fast.config.options import read_run_config
from gencond_fast.data.source import Source
from gencond_fast.errors import InputError
from gencond_fast.evaluation.audit_queries import MembershipQueries, QuerySet, asked_images
from gencond_fast.evaluation.inference import AuditRow, attack_rows
from gencond_fast.evaluation.run import open_test, split_of
from gencond_fast.store.artifact import Artifact, load
from gencond_fast.system.environment import describe
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import derive_seed
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.system.words import counted
from gencond_fast.training.protocol import PROTOCOLS


@dataclass(frozen=True)
class AuditResult:
    """All attacks and what they were carried out with.

    Attributes:
        rows: one for each attack and kind of target.
        shadows: how many halves were condensed.
        model: architecture of the students.
        protocol: all its numbers (`gencond_fast.training.protocol`).
        epochs: passes over the condensed images.
        held_out: the share of the training split that the test images are, None where they are the
            data's own validation split.
        environment: versions and machine.
        tested_on: the name of the split that the test images are, None where they are held out.
    """

    rows: tuple[AuditRow, ...]
    shadows: int
    model: str
    protocol: dict[str, Any]
    epochs: int
    held_out: float | None
    environment: dict[str, Any]
    tested_on: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, means and standard deviations included."""
        plain = asdict(self)
        for row, values in zip(self.rows, plain["rows"], strict=True):
            values |= row.summary()
        return plain


def audit(config: AuditConfig, reporter: Reporter | None = None) -> AuditResult:
    """Attacks a condensed file, and with shadows the way it was made, by membership inference.

    Without shadows: the loss of students of the file on an image (1709.01604). With them also LiRA
    (2112.03570). An attack that finds nothing is no proof of privacy. Called again after an
    interruption it continues.

    Args:
        config: all options.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the file, the data or an option cannot be used.
        RunError: a condensation or a student diverged.
        OSError: the cache cannot be written.
    """
    reporter = reporter or Reporter()
    artifact = load(config.run)
    evaluation = _evaluation(config)
    protocol = PROTOCOLS[config.protocol]
    if protocol.soft:
        artifact.require_soft_labels(config.run)
    making = _making(config, artifact) if config.shadows else None
    split = split_of(artifact)
    source = open_test(evaluation, artifact, split, reporter)
    known = artifact.metadata.made.get("data")  # private files do not have it
    if known is not None and source.fingerprint != known:
        reporter.message(
            f"note: {config.data} is not, file for file (compared: {source.compared}), the data of "
            "the condensation; who was a member then may not be taken for one now"
        )
    size = artifact.metadata.store.image_size
    runtime = choose_runtime(
        config.device, config.precision, config.compile, size, reporter.message
    )
    asked = asked_images(source, config.images)
    questioning = MembershipQueries(evaluation, source, asked, runtime, protocol, size, reporter)
    inside, shadows = None, []
    if making is not None:
        inside = _memberships(source, config.shadows, making.seed)
        shadows = _condensed(making, source, inside, reporter)
    questioning.keep_images()
    students = [(config.run, seed) for seed in range(config.seeds)] + [(run, 0) for run in shadows]
    with reporter.phase("students", len(students) * config.epochs) as progress:
        answers = np.stack([questioning.confidences(run, seed, progress) for run, seed in students])
    source.tell_left_out(reporter.message)
    return AuditResult(
        rows=_rows(answers, config.seeds, asked, inside, source),
        shadows=config.shadows,
        model=config.model,
        protocol=asdict(protocol),
        epochs=config.epochs,
        held_out=split.val_fraction if source.tested_on is None else None,
        tested_on=source.tested_on,
        environment=describe() | {"runtime": runtime.describe()},
    )


def _condensed(
    making: Config, source: Source, inside: np.ndarray, reporter: Reporter
) -> list[Path]:
    """The files of all shadows, made from the images that `inside` [K, N] says."""
    files = []
    for number, rows in enumerate(map(np.flatnonzero, inside)):
        reporter.message(f"shadow {number + 1} of {len(inside)}: {counted(len(rows), 'image')}")
        files.append(condense_shadow(making, source, rows, number, reporter))
    return files


def _evaluation(config: AuditConfig) -> EvaluateConfig:
    """How students are trained, and how the data is opened."""
    return EvaluateConfig(
        **run_options(config),
        run=config.run,
        test_split=config.test_split,
        models=(config.model,),
        protocol=config.protocol,
        seeds=config.seeds,
        epochs=config.epochs,
    )


def _making(config: AuditConfig, artifact: Artifact) -> Config:
    """The options that the run was condensed with, on this machine and with its budget."""
    path = Path(config.run) / CONFIG_NAME
    if not path.is_file():
        raise InputError(
            f"{path} does not exist, and shadows are condensed with its options: give the run "
            "directory, or leave out --shadows"
        )
    made = read_run_config(path)
    spec = artifact.metadata.store
    return replace(
        made,
        **run_options(config),
        image_size=spec.image_size,
        ipc=None,
        bytes=artifact.metadata.budget,
        store=replace(made.store, soft_labels=spec.soft_labels),
    )


def _memberships(source: Source, shadows: int, seed: int) -> np.ndarray:
    """Which training image is in which shadow, bool [K, N]; those left out are in none."""
    labels = source.train.labels
    good = np.flatnonzero(~source.train.left_out(np.arange(len(labels))))
    counts = np.bincount(labels[good], minlength=len(source.class_names))
    if counts.min() < 2:
        name = source.class_names[int(counts.argmin())]
        raise InputError(
            f"{source.location} has one training image of the class {name!r}, which cannot be "
            "halved for shadows: add images, or leave out --shadows"
        )
    inside = np.zeros((shadows, len(labels)), dtype=bool)
    inside[:, good] = halves(labels[good], shadows, derive_seed(seed, "shadows"))
    return inside


def _rows(
    answers: np.ndarray, seeds: int, asked: QuerySet, inside: np.ndarray | None, source: Source
) -> tuple[AuditRow, ...]:
    """All attacks on answers [seeds + K, n + m] of the students of the file and of each shadow."""
    is_member = np.arange(answers.shape[1]) < len(asked.members)
    known = ~np.isnan(answers).any(0)  # but for those that turned out to be undecodable
    if inside is not None:
        assert source.val is not None
        # no shadow has a test image, but as many of them are to be compared as for a training image
        labels = source.val.labels[asked.others]
        phantom = halves(labels, len(inside), derive_seed(0, "phantoms"))
        inside = np.concatenate((inside[:, asked.members], phantom), 1)[:, known]
    return attack_rows(answers[:seeds, known], answers[seeds:, known], is_member[known], inside)
