"""Soft labels for a file that is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gencond_fast.condensation.labels import with_soft_labels
from gencond_fast.condensation.task import open_config, open_task, set_up
from gencond_fast.condensation.teachers import check_teachers, choose_teachers
from gencond_fast.config import Config
from gencond_fast.config.options import changed_options, resolve
from gencond_fast.config.renamed import current_names
from gencond_fast.data.source import Source
from gencond_fast.errors import InputError
from gencond_fast.models.custom import is_own
from gencond_fast.store import artifact
from gencond_fast.store.artifact import Artifact, Metadata
from gencond_fast.store.budget import check_codable, with_label_bytes
from gencond_fast.store.entropy import require_coder
from gencond_fast.system.progress import Reporter

# what the file says of its making that decides on teachers; where it was made is none of it
_TAKEN = ("seed", "val_fraction", "precision", "compile")
_SECTIONS = ("networks.", "labels.", "teachers.")


def relabel(
    run: str | Path,
    data: str,
    *layers: Mapping[str, Any],
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Gives the samples of a condensed file soft labels, and returns the path of the new file.

    The options that the file was made with decide on the teachers: networks of the pool are in the
    cache of the machine that condensed it, or are trained anew.

    Args:
        run: run directory or condensed file.
        data: the data that it was condensed from.
        layers: options of `Config`, nested, each over the one before and all over those of the
            file: `store.soft_labels` where it has no soft labels yet, `labels`, `teachers`, and
            `bytes` to raise the budget.
        out: where to write; over the file itself when None. It appears whole or not at all.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the file, the data or an option cannot be used, or the file would exceed its
            budget.
        RunError: a teacher diverged.
        OSError: the file or the cache cannot be written.
    """
    reporter = reporter or Reporter()
    old = artifact.load(run)
    _refuse_private(old.metadata, run)
    target = _target(run, out)
    config = _config(old, data, layers)
    metadata = _metadata(old.metadata, config)
    _check_labels(metadata, run)
    source, config = _open(old.metadata, config, reporter)
    image_size = old.metadata.store.image_size
    check_teachers(config, source, image_size)
    task = open_task(set_up(config, source, image_size, reporter))
    store = with_soft_labels(task, old.store, metadata.store, choose_teachers(task))
    artifact.save(target, store, replace(metadata, store=store.spec), old.labeller)
    source.tell_left_out(reporter.message)
    return target


def _refuse_private(old: Metadata, run: str | Path) -> None:
    if "privacy" in old.made:
        raise InputError(
            f"{run} is differentially private, and teachers trained on real images would end that: "
            "condense without --dp-epsilon to have soft labels"
        )


def _target(run: str | Path, out: str | Path | None) -> Path:
    if out is None:
        return Path(run) / artifact.FILE_NAME if Path(run).is_dir() else Path(run)
    target = Path(out)
    if target.is_dir():
        raise InputError(f"--out {target} is a folder: give the name of a file")
    if not target.absolute().parent.is_dir():
        raise InputError(f"--out {target}: the folder {target.parent} does not exist")
    return target


def _config(old: Artifact, data: str, layers: Sequence[Mapping[str, Any]]) -> Config:
    """The options that the file was made with, then those given."""
    spec, options = old.metadata.store, _options_of(old.metadata)
    _check_code(options, layers)
    taken = [
        _nested(name, value)
        for name, value in options.items()
        if name in _TAKEN or name.startswith(_SECTIONS)
    ]
    kept = {"soft_labels": spec.soft_labels, "label_bytes": options.get("store.label_bytes")}
    own = {"store": kept, "bytes": old.metadata.budget}
    fixed = {"data": data, "out": "", "image_size": spec.image_size}
    config = resolve(*taken, own, *layers, fixed)
    if not config.store.soft_labels:
        raise InputError(
            "the file has no soft labels yet: say with --soft-labels how many class probabilities "
            "of each sample to keep"
        )
    return config


def _check_code(options: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> None:
    """A file from a stranger must not say which code is run."""
    for section, name in (("networks", "model"), ("networks", "mixture"), ("teachers", "model")):
        models = options.get(f"{section}.{name}")
        said = any(name in layer.get(section, {}) for layer in layers)
        if not said and any(is_own(each) for each in _strings(models)):
            raise InputError(
                f"the file says {section}.{name}={models!r}, which is code outside gencond-fast, "
                f"and no file decides on code to run: say --set {section}.{name}={models} if it is "
                "yours, or choose another model"
            )


def _strings(value: Any) -> list[str]:
    """What a string, or a list of them, says."""
    values = value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, str)]


def _nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _options_of(metadata: Metadata) -> dict[str, Any]:
    options = metadata.made.get("options", {})
    return current_names(options) if isinstance(options, dict) else {}


def _metadata(old: Metadata, config: Config) -> Metadata:
    """What the new file says about itself: how it was made, but for its labels as the old one."""
    new = ("store.soft_labels", "store.label_bytes", "labels.", "teachers.")
    before = {k: v for k, v in _options_of(old).items() if not k.startswith(new)}
    now = {k: v for k, v in changed_options(config).items() if k.startswith(new)}
    kept = min(config.store.soft_labels, old.store.num_classes)
    spec = replace(old.store, soft_labels=kept, label_bytes=0)
    return replace(
        old,
        store=with_label_bytes(spec, config.store),
        budget=config.bytes or old.budget,
        made=old.made | {"options": before | now},
    )


def _check_labels(metadata: Metadata, run: str | Path) -> None:
    require_coder()
    check_codable(metadata.store)
    size = artifact.file_size(metadata)
    enough = size + 16  # the budget is written into the file, which its digits may enlarge
    if size > metadata.budget:
        raise InputError(
            f"{run} would weigh {size:,} bytes with {metadata.store.soft_labels} class "
            f"probabilities a sample, and its budget is {metadata.budget:,}: keep fewer with "
            "--soft-labels, give each label fewer bytes with --set store.label_bytes=1.5, or raise "
            f"the budget with --bytes {enough}"
        )


def _open(old: Metadata, config: Config, reporter: Reporter) -> tuple[Source, Config]:
    """The data with the classes of the file, all of them if that is what it has."""
    source = open_config(config, reporter)
    if source.class_names != old.class_names:  # a choice of classes has another fingerprint
        config = replace(config, classes=old.class_names)
        source = open_config(config, reporter)
    if source.class_names != old.class_names or source.channels != old.store.channels:
        raise InputError(
            f"{config.data} has classes in another order than the file, or other channels: give "
            "the data that it was condensed from"
        )
    if source.fingerprint != old.made.get("data"):
        reporter.message(
            f"note: {config.data} is not, file for file (compared: {source.compared}), the data of "
            "the condensation; images that were set apart then may be learned by the teachers now"
        )
    return source, config
