"""One condensation from the data set to the file."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencond_fast.condensation import directory as run_directory
from gencond_fast.condensation.bank import with_image_cache
from gencond_fast.condensation.checkpoint import CHECKPOINTS, Checkpoint, open_checkpoint
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.closing_check import check_result, is_checked
from gencond_fast.condensation.labeller import build_labeller
from gencond_fast.condensation.labels import with_soft_labels
from gencond_fast.condensation.loop import Loop
from gencond_fast.condensation.notes import (
    tell_labeller,
    tell_large_budget,
    tell_rare_classes,
    tell_untested,
)
from gencond_fast.condensation.phases import expected_phases
from gencond_fast.condensation.private.guarantee import check_guarantee, describe_guarantee
from gencond_fast.condensation.private.task import PrivateTask, open_private_task
from gencond_fast.condensation.selection import first_images, preferred_rows
from gencond_fast.condensation.shards import deal_out, whole_state
from gencond_fast.condensation.sharing import check_enough, deal_classes, shared_networks
from gencond_fast.condensation.stages import build_stages
from gencond_fast.condensation.task import (
    Setting,
    Task,
    choose_image_size,
    open_config,
    open_task,
    set_up,
)
from gencond_fast.condensation.teachers import check_teachers, choose_teachers
from gencond_fast.condensation.validate import check_choices
from gencond_fast.config import Config
from gencond_fast.config.options import changed_options
from gencond_fast.config.steps import labeller_share, with_steps
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.exporting.figures import real_grid, sample_grid, save_png
from gencond_fast.store import artifact
from gencond_fast.store.artifact import Metadata
from gencond_fast.store.budget import ipc_to_bytes, size_store
from gencond_fast.store.labeller import LEAST_WIDTH, USEFUL_WIDTH, choose_labeller
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet
from gencond_fast.store.stores import build_store
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.environment import versions
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import derive_seed
from gencond_fast.system.words import counted

_UNSAID_STEPS = 4000  # a file that does not say how many steps it took took these


def condense(
    config: Config,
    reporter: Reporter | None = None,
    ranks: Ranks | None = None,
    source: Source | None = None,
) -> Path:
    """Condenses a data set and returns the path of the file.

    Called again after an interruption with the same options it continues; after completion it
    does nothing. On a CPU with the same number of threads the file has the same bits, however
    often the run was interrupted.

    Several ranks give the file of one to rounding. The first one alone reads and writes the run
    directory, so that a run may go on with another number of them.

    Args:
        config: all options.
        reporter: told of progress; silent when None.
        ranks: those that share the work, all of which call this; None for one alone.
        source: the data set, where it is opened already or only a part of it is wanted; it counts
            in place of what `config` says about the data.

    Raises:
        InputError: the data, an option or the run directory cannot be used.
        RunError: the optimisation diverged.
    """
    ranks, reporter = ranks or Ranks(), reporter or Reporter()
    source = source or open_config(config, reporter)
    ranks.check_same_data(config.data, source.fingerprint)
    image_size = choose_image_size(config, source)
    config = with_steps(config, image_size)
    # everything that can be refused is refused before anything is written
    check_choices(config, source, image_size)
    check_enough(config, source, ranks)
    check_teachers(config, source, image_size)
    if config.privacy.on:
        check_guarantee(config, source)
    blank = Normalisation((0.1234,) * source.channels, (0.1234,) * source.channels)
    sized_metadata(config, source, image_size, blank)
    directory = (
        run_directory.find(config, source.fingerprint) if ranks.is_main else Path(config.out)
    )
    path = directory / artifact.FILE_NAME
    if ranks.broadcast_object(ranks.is_main and run_directory.finished(directory)):
        reporter.message(f"{path} is finished: nothing to do")
        return path
    if ranks.is_main:
        _refuse_changed_data(config, source, directory, reporter)
    setting = set_up(config, source, image_size, reporter)
    task = _open(setting, ranks)
    ranks.check_same_runtime(task.runtime.describe())
    ranks.connect(task.runtime.device)
    with run_directory.claimed(config, directory) if ranks.is_main else nullcontext():
        _run(task, directory, ranks)
        ranks.barrier()  # the first one may still write
    source.tell_left_out(reporter.message)
    return path


def _open(setting: Setting, ranks: Ranks) -> Task:
    config = setting.config
    if config.privacy.on:
        return open_private_task(setting)
    if _matches(config):
        setting = with_image_cache(setting, ranks)
    return open_task(setting)


def _matches(config: Config) -> bool:
    """Whether there are steps of matching, which need feature networks and statistics."""
    steps = config.training.steps or 0
    return steps > round(steps * config.warm_share)


def _run(task: Task, directory: Path, ranks: Ranks) -> None:
    config, source, reporter = task.config, task.source, task.reporter
    began = time.monotonic()
    metadata = sized_metadata(config, source, task.image_size, task.normalisation)
    shared = f", {ranks.world_size} ranks" if ranks.world_size > 1 else ""
    reporter.message(
        f"{counted(len(source.train), 'image')} of {task.num_classes} classes at "
        f"{task.image_size} px; {counted(metadata.store.per_class, 'sample')} per class in "
        f"{format_bytes(metadata.budget)}; {task.runtime.describe()}{shared}"
    )
    tell_labeller(metadata.labeller, reporter.message)
    tell_untested(task, reporter.message)
    if not isinstance(task, PrivateTask):
        tell_rare_classes(task, metadata.store, reporter.message)
        tell_large_budget(task, metadata.budget, reporter.message)
    if task.runtime.compiled:
        reporter.message("the first step of each part compiles, which takes up to a minute")
    saved = _load(metadata.store, directory, reporter.message) if ranks.is_main else None
    spec = StoreSpec(**ranks.broadcast_object(asdict(metadata.store)))
    needed = _matches(config) or config.training.selection != "random"
    reporter.expect(
        expected_phases(
            task,
            metadata.store,
            matches=_matches(config),
            networks=needed,
            labelled=metadata.labeller is not None,
        )
    )
    networks = shared_networks(task, ranks) if needed else None
    partition = deal_classes(task, spec, networks, ranks)
    rows = preferred_rows(task, networks, spec.per_class, ranks)
    store, saved = _start(task, rows, saved, partition)
    stages = build_stages(task, store, rows, networks, directory, partition)
    Loop(task, store, stages, directory, saved, partition).run()
    store = _whole(store, partition)
    if not ranks.is_main:
        return
    if metadata.store.soft_labels:
        store = with_soft_labels(task, store, metadata.store, choose_teachers(task, networks))
        metadata = replace(metadata, store=store.spec)
    names = source.titles
    labeller = build_labeller(task, metadata.labeller, store.spec)
    if not isinstance(task, PrivateTask):
        save_png(real_grid(task.sample.images, task.sample.labels, names), directory / "real.png")
    save_png(sample_grid(store, names), directory / "samples.png")
    artifact.save(directory / artifact.FILE_NAME, store, metadata, labeller)
    _check(task, rows, store, time.monotonic() - began)


def _check(task: Task, rows: Tensor, store: StoredSet, seconds: float) -> None:
    """Tells what the steps have done to samples that started as coded real images."""
    steps = task.config.trajectory.steps + (task.config.training.steps or 0)
    if not is_checked(task.config, steps):
        return
    start = _new_store(task, rows, store.spec, task.runtime.device, from_images=True)
    if told := check_result(task, start.eval(), store.eval(), seconds):
        task.reporter.message(told)


def _load(spec: StoreSpec, directory: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    """Where an earlier start left off, if there was one."""
    saved = open_checkpoint(directory / CHECKPOINTS, tell)
    if saved and asdict(spec) | saved.spec != asdict(spec):
        raise InputError(
            f"{directory} was started with other versions of packages, which leave room for "
            "another number of samples: install those of its environment.json or give another --out"
        )
    return saved


def _start(
    task: Task, rows: Tensor, saved: Checkpoint | None, partition: ClassPartition
) -> tuple[StoredSet, Checkpoint | None]:
    """What this rank keeps of the stored set before the first step, and of the checkpoint."""
    if partition.ranks.world_size == 1:
        return _new_store(
            task, rows, partition.spec, task.runtime.device, from_images=not saved
        ), saved
    state: dict[str, torch.Tensor] = {}
    if partition.ranks.is_main and not saved:
        state = _new_store(
            task, rows, partition.spec, torch.device("cpu"), from_images=True
        ).state_dict()
    store = build_store(partition.kept_spec)
    saved = deal_out(state, saved, store, partition)
    return store.to(task.runtime.device), saved


def _new_store(
    task: Task, rows: Tensor, spec: StoreSpec, device: torch.device, *, from_images: bool
) -> StoredSet:
    """The whole stored set as a run begins with it; what it adopts is real images."""
    store = build_store(spec, seed=derive_seed(task.config.seed, "store")).to(device)
    if task.config.starts_as_images and from_images:
        store.init_from_images(first_images(task, rows, spec.per_class).to(device))
    return store


def _whole(store: StoredSet, partition: ClassPartition) -> StoredSet:
    """The stored set of all classes, on the first rank, of what each rank keeps."""
    if not partition.divided:
        return store
    state = whole_state(store, partition)
    if not partition.ranks.is_main:
        return store
    device = next(store.parameters()).device
    whole = build_store(partition.spec)
    whole.load_state_dict(state)
    return whole.to(device)


def _refuse_changed_data(
    config: Config, source: Source, directory: Path, reporter: Reporter
) -> None:
    saved, was = open_checkpoint(directory / CHECKPOINTS), run_directory.earlier_data(directory)
    if saved and saved.fingerprint != source.fingerprint:
        raise InputError(
            f"the data in {source.location} has changed since the run in {directory} was "
            f"started (compared: {source.compared}): give another --out"
        )
    if saved and was != config.data:
        reporter.message(
            f"the data lay in {was} before; it is the same (compared: {source.compared})"
        )


def sized_metadata(
    config: Config, source: Source, image_size: int, normalisation: Normalisation
) -> Metadata:
    """What the file will say about itself, its stored set sized to the budget."""
    shape = (len(source.class_names), source.channels, image_size)
    budget = config.bytes or ipc_to_bytes(config.ipc or 1, *shape)
    # where things lie on the maker's machine is nobody else's business, nor how they were read;
    # classes stand beside
    omitted = ("data", "out", "classes", "reader", "in_memory", "training.check")
    options = {k: v for k, v in changed_options(config).items() if k not in omitted}
    if options.get("training.steps") == _UNSAID_STEPS:
        del options["training.steps"]
    made: dict[str, Any] = {"options": options, "versions": versions()}
    if config.privacy.on:  # without the fingerprint, which would confirm a guess of all images
        made["privacy"] = describe_guarantee(config)
    else:
        made["data"] = source.fingerprint
    if source.decoder is not None:
        made["decoder"] = source.decoder

    share = labeller_share(config, image_size)
    asked = config.labels.labeller is not None
    least = LEAST_WIDTH if asked else USEFUL_WIDTH
    labeller = choose_labeller(share, budget, *shape, least=least)
    if labeller is None and asked and share:
        raise InputError(
            f"labels.labeller={share:g} leaves {int(share * budget):,} bytes for a labeller, which "
            "are too few: raise it, or the budget"
        )

    def describe(spec: StoreSpec) -> Metadata:
        return Metadata(
            store=spec,
            class_names=source.class_names,
            mean=normalisation.mean,
            std=normalisation.std,
            budget=budget,
            made=made,
            labeller=labeller,
        )

    spec = size_store(
        budget,
        config.store,
        num_classes=shape[0],
        channels=source.channels,
        image_size=image_size,
        file_size=lambda spec: artifact.file_size(describe(spec)),
        real=int(np.bincount(source.train.labels, minlength=shape[0]).max()),
    )
    return describe(spec)
