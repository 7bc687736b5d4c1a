"""Results as text for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from gencond_fast.store.budget import bits_per_class, bytes_to_ipc
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.progress import printable
from gencond_fast.system.words import counted

if TYPE_CHECKING:
    from gencond_fast.evaluation import EvaluationResult
    from gencond_fast.evaluation.auditing import AuditResult
    from gencond_fast.evaluation.inference import AuditRow
    from gencond_fast.evaluation.nearest import NearestImages
    from gencond_fast.evaluation.result import Row
    from gencond_fast.evaluation.score import Scores
    from gencond_fast.store.artifact import Artifact

# names of a protocol's numbers as people say them
_PROTOCOL_WORDS = {
    "optimizer": "optimiser",
    "lr": "learning rate",
    "warm_up": "warm-up",
    "cutmix": "CutMix",
    "ema_decay": "moving average",
}


_NEIGHBOURS = 3  # pairs that are shown


def print_artifact(artifact: Artifact, path: Path) -> None:
    """What a condensed file holds, and what it costs a class."""
    spec, size = artifact.metadata.store, artifact.size
    ipc = bytes_to_ipc(size, spec.num_classes, spec.channels, spec.image_size)
    print(f"{path}: {size:,} bytes ({format_bytes(size)}), format {spec.format}")
    print(
        f"  {spec.num_classes} classes x {counted(spec.per_class, 'sample')} of "
        f"{spec.channels}x{spec.image_size}x{spec.image_size}"
        + (
            f", {counted(spec.soft_labels, 'class probability', 'class probabilities')} each"
            if spec.soft_labels
            else ""
        )
    )
    options = artifact.metadata.made.get("options", {})
    if isinstance(options, dict) and options.get("training.init") == "class_mean":
        print("  started as draws around class means: no sample is a copy of a training image")
    if labeller := artifact.metadata.labeller:
        print(f"  labeller {labeller.model}@{labeller.width} in {labeller.bytes:,} of these bytes")
    print(
        f"  {bits_per_class(size, spec.num_classes):,.0f} bits per class = "
        f"IPC {ipc:.3g} in float32 pixels, {4 * ipc:.3g} in uint8"
    )


def print_plain(values: Mapping[str, Any], indent: str = "") -> None:
    """Names and values, nested ones indented; a dash for None."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}:")
            print_plain(value, indent + "  ")
        else:
            print(printable(f"{indent}{name}: {'-' if value is None else value}"))


def print_result(result: EvaluationResult) -> None:
    """The table of an evaluation, and what the file costs."""
    table = Table()
    words, numbers = ("trained on", "model"), ("accuracy %", "seeds", "seconds")
    for name in ("trained on", "images per class", "model", *numbers):
        table.add_column(name, justify="left" if name in words else "right")
    for row in result.rows:
        seeds = str(len(row.accuracies))
        accuracy = _spread(row.mean, row.std, len(row.accuracies), 2)
        cells = (_trained_on(row), row.images, row.model, accuracy, seeds)
        table.add_row(*cells, f"{row.seconds:.0f}")
    Console().print(table)
    if result.attack is not None:
        _print_attacked(result, result.attack)
    print(printable(f"tested on {result.tested}"))
    tested = "test" if result.held_out is None else "held-out training"
    print(
        f"{_epochs(result)}, last epoch, "
        f"{counted(result.test_images, f'{tested} image')}; file {result.bytes:,} bytes = "
        f"{result.bits_per_class:,.0f} bits per class = IPC {result.ipc:.3g} float32, "
        f"{result.ipc_uint8:.3g} uint8"
    )
    if result.labeller_accuracy is not None:
        print(f"the file's labeller by itself: {100 * result.labeller_accuracy:.2f} %")
    for model, score in result.label_robust_scores.items():
        print(f"label-robust score of {model} (2505.13300, w = 0.5): {score:.4f}")
    for model, score in result.augmentation_robust_scores.items():
        print(f"augmentation-robust score of {model} (2505.13300, gamma = 0.5): {score:.4f}")
    for name, quality in {row.training_set: row.quality for row in result.rows}.items():
        if quality is not None:
            print(f"{name}: quality {quality}")
    steps = {_trained_on(row): row.steps for row in result.rows}
    told = ", ".join(f"{taken:,} on {name}" for name, taken in steps.items())
    print(f"optimiser steps of a student: {told}")
    print(f"protocol {_numbers(result.protocol)}")
    if not all(row.augmented for row in result.rows):
        print("plain: the same protocol without its augmentation and CutMix")


def _epochs(result: EvaluationResult) -> str:
    """`300 epochs`, or those of each training set where they differ."""
    found = {_trained_on(row): row.epochs or result.epochs for row in result.rows}
    if len(set(found.values())) < 2:
        return counted(result.epochs, "epoch")
    return "epochs: " + ", ".join(f"{epochs:,} on {name}" for name, epochs in found.items())


def _trained_on(row: Row) -> str:
    return row.training_set if row.augmented else f"{row.training_set}, plain"


def _print_attacked(result: EvaluationResult, attack: Mapping[str, Any]) -> None:
    """The table of the accuracies under attack, and how strong the attacks are."""
    names = list(result.rows[0].attacked)
    table = Table()
    for name in ("trained on", "model", *(f"{name} %" for name in names)):
        table.add_column(name, justify="right" if name.endswith("%") else "left")
    for row in result.rows:
        mean, std = row.attacked_mean, row.attacked_std
        seeds = len(row.accuracies)
        cells = (_spread(mean[name], std[name], seeds, 2) for name in names)
        table.add_row(_trained_on(row), row.model, *cells)
    Console().print(table)
    pgd = (
        f", pgd {counted(attack['steps'], 'step')} of {attack['step_size']:g}/255"
        if "pgd" in names
        else ""
    )
    print(
        f"attacks within {attack['epsilon']:g}/255 of every pixel (L-infinity){pgd}; clean and "
        f"attacked on the same {counted(attack['images'], 'image')}"
    )


def print_scores(scores: Scores) -> None:
    """Scores of the stored images, and the network and numbers of images behind them."""
    print_plain(
        {
            "coverage": f"{scores.coverage:.4f}",
            "density": f"{scores.density:.4f}",
            "precision": f"{scores.precision:.4f}",
            "recall": f"{scores.recall:.4f}",
            "frechet distance": f"{scores.frechet_distance:.4f}",
        }
    )
    print(
        f"{counted(scores.generated, 'stored image')} and {counted(scores.real, 'test image')}"
        f"{'' if scores.tested_on is None else f' of {scores.tested_on}'}, "
        f"k = {scores.k} nearest neighbours in {counted(scores.features, 'feature')} of "
        f"{scores.model} trained for {counted(scores.epochs, 'epoch')} on all training images "
        f"(test accuracy {100 * scores.accuracy:.2f} %); compare only scores with the same network "
        "and numbers of images"
    )
    _print_nearest(scores.nearest)


def _print_nearest(nearest: NearestImages) -> None:
    """How close stored samples come to training images, and the closest of them."""
    print(nearest.sentence)
    for each in nearest.neighbours[:_NEIGHBOURS]:
        print(printable(f"  {each.distance:.4f}: sample {each.sample} and {each.image}"))


def print_audit(result: AuditResult) -> None:
    """The table of the attacks, and what their numbers can and cannot say."""
    table = Table()
    rates = [f"TPR@{100 * float(rate):g} %" for rate in result.rows[0].tpr]
    for name in ("attack", "on", "AUC %", "accuracy %", *rates):
        table.add_column(name, justify="left" if name in ("attack", "on") else "right")
    for row in result.rows:
        tpr = (_percent(each, 2) for each in row.tpr.values())
        cells = (_percent(row.auc, 1), _percent(row.balanced_accuracy, 1), *tpr)
        table.add_row(row.attack, row.target, *cells)
    Console().print(table)
    for row in result.rows:
        if row.attack == "loss":  # one for each target
            _print_audited(row)
    print(
        "TPR@r: % of members found where r of the non-members are taken for members; accuracy is "
        "balanced, at the best threshold in hindsight"
    )
    print("an attack that finds nothing does not prove privacy: another attack may find something")
    print(
        f"students: {result.model}, {counted(result.epochs, 'epoch')}; protocol "
        f"{_numbers(result.protocol)}"
    )


def _print_audited(row: AuditRow) -> None:
    """How many images were asked about, the result of guessing, and rates they are too few for."""
    number = len(row.auc)
    if row.target == "file":
        students = f"{counted(number, 'student')} of the file"
    else:
        students = f"{counted(number, 'shadow')}, one student each"
    print(
        f"on {row.target}: {'mean ± std of ' if number > 1 else ''}{students}; "
        f"{counted(row.members, 'member')} and {counted(row.non_members, 'non-member')}; guessing "
        f"gives AUC 50 ± {100 * row.chance:.1f} % for each student"
    )
    for rate, found in row.tpr.items():
        if found is None:
            print(
                f"on {row.target}: {counted(row.non_members, 'non-member')} are too few for a "
                f"false positive rate of {100 * float(rate):g} %, which needs "
                f"{round(1 / float(rate)):,}"
            )


def _percent(values: Sequence[float] | None, digits: int) -> str:
    if values is None:
        return "too few"
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return _spread(statistics.fmean(values), std, len(values), digits)


def _spread(mean: float, std: float, number: int, digits: int) -> str:
    """Mean and standard deviation in percent; one value has no deviation."""
    shown = f"{100 * mean:.{digits}f}"
    return f"{shown} ± {100 * std:.{digits}f}" if number > 1 else shown


def _numbers(protocol: Mapping[str, Any]) -> str:
    """`dc: batch size 256, optimiser sgd, ..., no CutMix, hard labels`."""
    numbers = {k: v for k, v in protocol.items() if k not in ("name", "soft")}
    shown = [_number(_PROTOCOL_WORDS.get(k, k.replace("_", " ")), v) for k, v in numbers.items()]
    shown.append("soft labels" if protocol.get("soft") else "hard labels")
    return f"{protocol['name']}: {', '.join(shown)}"


def _number(name: str, value: Any) -> str:
    if not value:  # 0, None, or no operation
        return f"no {name}"
    return f"{name} {'+'.join(value) if isinstance(value, list | tuple) else value}"
