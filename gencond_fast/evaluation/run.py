"""An evaluation: condensed set and baselines, architectures, seeds."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as validated

from gencond_fast.config import Count, EvaluateConfig, Fraction, Transparency
from gencond_fast.config.options import parse
from gencond_fast.data.classes import MissingClass, find_classes
from gencond_fast.data.source import Source, open_source
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.evaluation.result import EvaluationResult, tested
from gencond_fast.evaluation.student_runner import StudentRunner, with_image_cache
from gencond_fast.models.registry import choose_models
from gencond_fast.store.artifact import Artifact, load
from gencond_fast.store.budget import bits_per_class, bytes_to_ipc
from gencond_fast.system.environment import describe
from gencond_fast.system.progress import LatePhase, Reporter
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.system.words import counted
from gencond_fast.training.protocol import PROTOCOLS


def evaluate(
    config: EvaluateConfig, reporter: Reporter | None = None, ranks: Ranks | None = None
) -> EvaluationResult:
    """Trains students from scratch on a condensed set and on baselines, and tests them.

    Args:
        config: all options.
        reporter: told of progress; silent when None.
        ranks: those that share the students, all of which call this and get the result; None for
            one alone.

    Raises:
        InputError: the file, the data or an option cannot be used.
        RunError: a student diverged.
    """
    ranks, reporter = ranks or Ranks(), reporter or Reporter()
    artifact = load(config.run)
    spec = artifact.metadata.store
    config = replace(config, models=choose_models(config.models, spec.image_size))
    protocol = PROTOCOLS[config.protocol]
    if protocol.soft:
        artifact.require_soft_labels(config.run)
    elif spec.soft_labels or artifact.labeller:
        reporter.message(
            f"the file has soft labels, and protocol {protocol.name} learns hard ones: "
            "--protocol soft learns them"
        )
    split = split_of(artifact)
    source = open_test(config, artifact, split, reporter)
    ranks.check_same_data(config.data, source.fingerprint)
    # the choice of classes is part of the fingerprint
    # and a private file does not tell it
    made = artifact.metadata.made
    told = config.classes is None and "privacy" not in made
    if told and source.fingerprint != made.get("data"):
        reporter.message(
            f"note: {config.data} is not, file for file (compared: {source.compared}), the data of "
            "the condensation; a part that was set apart then may not be the part tested on now"
        )
    runtime = choose_runtime(
        config.device, config.precision, config.compile, spec.image_size, reporter.message
    )
    ranks.check_same_runtime(runtime.describe())
    ranks.connect(runtime.device)
    source = with_image_cache(config, artifact, source, reporter.message)
    bench = StudentRunner(config, artifact, source, runtime, protocol)
    progress = LatePhase()
    sets = bench.sets.wanted(progress)
    with reporter.phase("students", bench.epochs_here(sets, ranks)) as progress.phase:
        rows = bench.rows(sets, progress, ranks)
    for name, students in bench.remembered.found.items():
        reporter.message(f"{name}: {counted(students, 'student')} of an earlier evaluation reused")
    bench.waiting.tell(reporter.message)
    source.tell_left_out(reporter.message)
    shape = (spec.num_classes, spec.channels, spec.image_size)
    ipc = bytes_to_ipc(artifact.size, *shape)
    return EvaluationResult(
        rows=rows,
        protocol=asdict(protocol),
        epochs=bench.epochs_of(sets[0]),
        bytes=artifact.size,
        ipc=ipc,
        ipc_uint8=4 * ipc,
        bits_per_class=bits_per_class(artifact.size, spec.num_classes),
        test_images=_tested(source),
        held_out=split.val_fraction if source.tested_on is None else None,
        tested_on=source.tested_on,
        environment=describe() | {"runtime": runtime.describe()},
        attack=_attack(config, bench),
        labeller_accuracy=bench.labeller_accuracy(),
    )


@validated(frozen=True, config=ConfigDict(extra="ignore"))
class Split:
    """What the file says about how the data was read, where that was not the default."""

    val_fraction: Fraction | None = None
    seed: Count = 0
    label_column: str | None = None
    transparency: Transparency | None = None


def split_of(artifact: Artifact) -> Split:
    """What a file says about how its data was split.

    Raises:
        InputError: it is nothing that can be.
    """
    options = artifact.metadata.made.get("options", {})
    return parse(Split, options if isinstance(options, dict) else {})


def _attack(config: EvaluateConfig, bench: StudentRunner) -> dict[str, Any] | None:
    """How students were attacked, if they were."""
    if not config.attack.names:
        return None
    options = {"norm": "Linf", **asdict(config.attack)}
    return options | {"step_size": config.attack.step, "images": bench.attacked_images}


def _tested(source: Source) -> int:
    """Images of the validation split, less those that are left out."""
    assert source.val is not None
    return len(source.val) - len(source.val.skip or ())


def open_test(
    config: EvaluateConfig, artifact: Artifact, split: Split, reporter: Reporter
) -> Source:
    """The data set, split as it was for the condensation, with the classes of the file.

    Raises:
        InputError: it cannot be used, is other data, or has nothing to test on.
    """
    classes = _chosen_classes(config, artifact)
    try:
        source = open_source(
            config.data,
            val_fraction=split.val_fraction,
            seed=split.seed,
            classes=classes,
            in_given_order=True,
            test_split=config.test_split,
            label_column=config.label_column or split.label_column,
            transparency=config.transparency or split.transparency,
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
        why = "".join(f" ({reason})" for reason in source.unusable.values())
        raise InputError(
            f"{config.data} has no validation split to test on{why}: condense with --val-fraction "
            "0.1, which sets a part of the data apart for it"
        )
    if not len(source.val):
        raise InputError(f"{config.data} has no test image of any class of {config.run}")
    reporter.message(f"tested on {_described(source, split)}")
    if config.classes is not None and source.channels == 1:
        # some classes of a colour set may well be gray
        source = replace(source, channels=artifact.metadata.store.channels)
    if source.channels != artifact.metadata.store.channels:
        raise InputError(
            f"{config.data} has images of {counted(source.channels, 'channel')}, {config.run} has "
            f"{artifact.metadata.store.channels}: give the data that it was condensed from"
        )
    return source


def _described(source: Source, split: Split) -> str:
    """The images that are tested on, in words, what they lack, and what could be chosen instead."""
    assert source.val is not None
    counts = np.bincount(source.val.labels, minlength=len(source.class_names))
    absent = [source.class_names[label] for label in np.flatnonzero(counts == 0)]
    lack = (
        f"; no test image of {len(absent):,} of {len(counts):,} classes, such as {absent[0]}"
        if absent
        else ""
    )
    others = [name for name in source.test_splits if name != source.tested_on]
    hint = f"; there is also {', '.join(others)} (--test-split)" if others else ""
    return tested(source.tested_on, split.val_fraction, _tested(source)) + lack + hint


def _chosen_classes(config: EvaluateConfig, artifact: Artifact) -> list[str]:
    """The classes of the file, or those of them that are asked for, in the order of the file."""
    names = artifact.metadata.class_names
    if config.classes is None:
        return list(names)
    return [names[label] for label in sorted(find_classes(config.classes, names, None, config.run))]
