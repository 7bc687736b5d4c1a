"""Whether a condensed file, or its way of making, betrays the images that it was made from."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gencond_fast.artifact import Artifact, load
from gencond_fast.condensation.directory import CONFIG_NAME
from gencond_fast.condensation.shadows import condense_shadow, halves
from gencond_fast.config import AuditConfig, Config, EvaluateConfig
from gencond_fast.data.source import Source
from gencond_fast.environment import describe
from gencond_fast.errors import InputError
from gencond_fast.evaluation.audit import Asked, Questioning, asked_images
from gencond_fast.evaluation.lira import loss_scores, offline_scores, online_scores
from gencond_fast.evaluation.membership import FPRS, Strength, auc_deviation, strength
from gencond_fast.evaluation.protocol import PROTOCOLS
from gencond_fast.evaluation.run import open_test, split_of
from gencond_fast.options import parse, read_yaml
from gencond_fast.progress import Reporter
from gencond_fast.rng import derive_seed
from gencond_fast.runtime import choose_runtime

_ENOUGH = 64  # shadows from which on each image has a variance of its own (2112.03570, VI-C)
_HERE = ("on_bad_image", "reader", "in_memory", "device", "precision", "compile")


@dataclass(frozen=True)
class AuditRow:
    """One attack on one kind of target.

    Attributes:
        attack: `loss`, `lira offline` or `lira online`.
        target: `file`, whose members are training images and whose non-members are test images; or
            `shadows`, whose members and non-members are training images, in it or not.
        members: how many were asked about, for the target with the fewest.
        non_members: likewise.
        auc, balanced_accuracy: one for each student of the file or for each shadow.
        tpr: true positive rates, likewise, by false positive rate; None where there are too few
            non-members for it.
    """

    attack: str
    target: str
    members: int
    non_members: int
    auc: tuple[float, ...]
    balanced_accuracy: tuple[float, ...]
    tpr: dict[str, tuple[float, ...] | None]

    @property
    def chance(self) -> float:
        """Standard deviation of one AUC around 0.5 where the attack knows nothing."""
        return auc_deviation(self.members, self.non_members)


@dataclass(frozen=True)
class AuditResult:
    """All attacks and what they were carried out with.

    Attributes:
        rows: one for each attack and kind of target.
        shadows: how many halves were condensed.
        model: architecture of the students.
        protocol: all its numbers (`gencond_fast.evaluation.protocol`).
        epochs: passes over the condensed images.
        held_out: the share of the training split that the test images are, None where they are the
            data's own validation split.
        environment: versions and machine.
    """

    rows: tuple[AuditRow, ...]
    shadows: int
    model: str
    protocol: dict[str, Any]
    epochs: int
    held_out: float | None
    environment: dict[str, Any]

    def to_plain(self) -> dict[str, Any]:
        """Plain values for JSON, means and standard deviations included."""
        plain = asdict(self)
        for row, values in zip(self.rows, plain["rows"], strict=True):
            values["chance"] = row.chance
            series = {"auc": row.auc, "balanced_accuracy": row.balanced_accuracy}
            values |= {f"{name}_mean": statistics.fmean(each) for name, each in series.items()}
            values |= {f"{name}_std": _deviation(each) for name, each in series.items()}
            known = {rate: each for rate, each in row.tpr.items() if each is not None}
            values["tpr_mean"] = {rate: statistics.fmean(each) for rate, each in known.items()}
            values["tpr_std"] = {rate: _deviation(each) for rate, each in known.items()}
        return plain


def _deviation(values: tuple[float, ...]) -> float:
    """Sample standard deviation; 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


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
    if source.fingerprint != artifact.metadata.made.get("data"):
        reporter.message(
            f"note: {config.data} is not, file for file, the data of the condensation; who was a "
            "member then may not be taken for one now"
        )
    size = artifact.metadata.store.image_size
    runtime = choose_runtime(config.device, config.precision, config.compile, size)
    asked = asked_images(source, config.images)
    questioning = Questioning(evaluation, source, asked, runtime, protocol, reporter)
    inside = None
    shadows: list[Path] = []
    if making is not None:
        inside = _memberships(source, config.shadows, making.seed)
        for number, rows in enumerate(map(np.flatnonzero, inside)):
            reporter.message(f"shadow {number + 1} of {config.shadows}: {len(rows):,} images")
            shadows.append(condense_shadow(making, source, rows, number, reporter))
    questioning.keep_images(size)
    students = [(config.run, seed) for seed in range(config.seeds)] + [(run, 0) for run in shadows]
    with reporter.task("students", len(students) * config.epochs) as progress:
        answers = np.stack([questioning.answers(run, seed, progress) for run, seed in students])
    source.tell_left_out(reporter.message)
    return AuditResult(
        rows=tuple(_rows(answers, config.seeds, asked, inside, source)),
        shadows=config.shadows,
        model=config.model,
        protocol=asdict(protocol),
        epochs=config.epochs,
        held_out=split.val_fraction,
        environment=describe() | {"runtime": runtime.describe()},
    )


def _evaluation(config: AuditConfig) -> EvaluateConfig:
    """How students are trained, and how the data is opened."""
    same = ("run", "data", "protocol", "seeds", "epochs", *_HERE)
    return EvaluateConfig(models=(config.model,), **{name: getattr(config, name) for name in same})


def _making(config: AuditConfig, artifact: Artifact) -> Config:
    """The options that the run was condensed with, on this machine and with its budget."""
    path = Path(config.run) / CONFIG_NAME
    if not path.is_file():
        raise InputError(
            f"{path} does not exist, and shadows are condensed with its options: give the run "
            "directory, or leave out --shadows"
        )
    made = parse(Config, read_yaml(path))
    spec = artifact.metadata.store
    return replace(
        made,
        **{name: getattr(config, name) for name in ("data", *_HERE)},
        image_size=spec.image_size,
        ipc=None,
        bytes=artifact.metadata.budget,
        store=replace(made.store, soft_labels=spec.soft_labels),
    )


def _memberships(source: Source, shadows: int, seed: int) -> np.ndarray:
    """Which training image is in which shadow, bool [K, N]; those left out are in none."""
    labels = source.train.labels
    good = np.arange(len(labels))
    if source.train.skipping is not None:
        good = good[~source.train.skipping(good)]
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
    answers: np.ndarray, seeds: int, asked: Asked, inside: np.ndarray | None, source: Source
) -> Iterator[AuditRow]:
    """All attacks on answers [seeds + K, n + m] of the students of the file and of each shadow."""
    is_member = np.arange(answers.shape[1]) < len(asked.members)
    known = ~np.isnan(answers).any(0)  # but for those that turned out to be undecodable
    answers, is_member = answers[:, known], is_member[known]
    own = answers[:seeds]
    yield _row("loss", "file", [_split(loss_scores(each), is_member) for each in own])
    if inside is None:
        return
    assert source.val is not None
    # no shadow has a test image, but as many shadows are to be compared as for a training image
    labels = source.val.labels[asked.others]
    phantom = halves(labels, len(inside), derive_seed(0, "phantoms"))
    inside = np.concatenate((inside[:, asked.members], phantom), 1)[:, known]
    with_it, without = _by_pair(answers[seeds:], inside)
    shared = len(inside) < _ENOUGH
    scores = [offline_scores(each, without, shared_variance=shared) for each in own]
    yield _row("lira offline", "file", [_split(each, is_member) for each in scores])
    of_shadows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, target in enumerate(answers[seeds:, is_member]):
        # its complement tells who is in it
        rest = np.arange(len(without)) != number // 2
        ins, outs = with_it[rest][:, is_member], without[rest][:, is_member]
        found = {
            "loss": loss_scores(target),
            "lira offline": offline_scores(target, outs, shared_variance=shared),
            "lira online": online_scores(target, ins, outs, shared_variance=shared),
        }
        for attack, values in found.items():
            pair = _split(values, inside[number, is_member])
            of_shadows.setdefault(attack, []).append(pair)
    for attack, pairs in of_shadows.items():
        yield _row(attack, "shadows", pairs)


def _by_pair(values: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair of shadows the value with the image and that without: [K / 2, N] each."""
    first = inside[0::2]
    even, odd = values[0::2], values[1::2]
    return np.where(first, even, odd), np.where(first, odd, even)


def _split(scores: np.ndarray, is_member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores[is_member], scores[~is_member]


def _row(attack: str, target: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> AuditRow:
    found: list[Strength] = [strength(*pair) for pair in pairs]

    def rates(fpr: float) -> tuple[float, ...] | None:
        values = tuple(rate for each in found if (rate := each.tpr[fpr]) is not None)
        return values if len(values) == len(found) else None

    return AuditRow(
        attack=attack,
        target=target,
        members=min(len(members) for members, _ in pairs),
        non_members=min(len(others) for _, others in pairs),
        auc=tuple(each.auc for each in found),
        balanced_accuracy=tuple(each.balanced_accuracy for each in found),
        tpr={str(fpr): rates(fpr) for fpr in FPRS},
    )
