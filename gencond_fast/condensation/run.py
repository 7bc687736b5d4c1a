"""One condensation from the data set to the file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from gencond_fast import artifact
from gencond_fast.artifact import Metadata
from gencond_fast.budget import format_bytes, ipc_to_bytes, size_store
from gencond_fast.condensation import directory as run_directory
from gencond_fast.condensation.bank import build_bank, keep_images
from gencond_fast.condensation.checkpoint import CHECKPOINTS, load_checkpoint
from gencond_fast.condensation.choices import check_choices
from gencond_fast.condensation.experts import build_experts
from gencond_fast.condensation.labels import with_soft_labels
from gencond_fast.condensation.loop import Loop
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import FeatureNetworks, build_networks
from gencond_fast.condensation.stage import Stage
from gencond_fast.condensation.task import (
    Task,
    choose_image_size,
    open_config,
    open_task,
    set_up,
)
from gencond_fast.condensation.teachers import check_teachers, choose_teachers
from gencond_fast.condensation.trajectory import Trajectory
from gencond_fast.condensation.warm_start import WarmStart, choose_targets
from gencond_fast.config import Config
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import Source
from gencond_fast.environment import versions
from gencond_fast.errors import InputError
from gencond_fast.models.spec import StoreSpec
from gencond_fast.models.store import StoredSet
from gencond_fast.models.stores import build_store
from gencond_fast.options import changed_options
from gencond_fast.progress import Reporter
from gencond_fast.report.figures import real_grid, sample_grid, save_png
from gencond_fast.rng import derive_seed


def condense(config: Config, reporter: Reporter | None = None) -> Path:
    """Condenses a data set and returns the path of the file.

    Called again after an interruption with the same options it continues; after completion it
    does nothing. On a CPU with the same number of threads the file has the same bits, however
    often the run was interrupted.

    Args:
        config: all options.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the data, an option or the run directory cannot be used.
        RunError: the optimisation diverged.
    """
    reporter = reporter or Reporter()
    source = open_config(config, reporter)
    image_size = choose_image_size(config, source)
    # everything that can be refused is refused before anything is written
    check_choices(config, source, image_size)
    check_teachers(config, source, image_size)
    blank = Normalisation((0.1234,) * source.channels, (0.1234,) * source.channels)
    sized_metadata(config, source, image_size, blank)
    directory = run_directory.find(config)
    path = directory / artifact.FILE_NAME
    if run_directory.finished(directory):
        reporter.message(f"{path} is finished: nothing to do")
        return path
    _refuse_changed_data(source, directory)
    setting = set_up(config, source, image_size, reporter)
    keep_images(setting)
    task = open_task(setting)
    with run_directory.claimed(config, directory):
        _run(task, directory)
    source.tell_left_out(reporter.message)
    return path


def _run(task: Task, directory: Path) -> None:
    config, source, reporter = task.config, task.source, task.reporter
    metadata = sized_metadata(config, source, task.image_size, task.normalisation)
    reporter.message(
        f"{len(source.train):,} images of {task.num_classes} classes at {task.image_size} px; "
        f"{metadata.store.per_class} samples a class in {format_bytes(metadata.budget)}; "
        f"{task.runtime.describe()}"
    )
    if task.runtime.compiled:
        reporter.message("the first step of each part compiles, which takes up to a minute")
    store = build_store(metadata.store, seed=derive_seed(config.seed, "store"))
    store.to(task.runtime.device)
    saved = load_checkpoint(directory / CHECKPOINTS, reporter.message)
    if saved and asdict(metadata.store) | saved.spec != asdict(metadata.store):
        raise InputError(
            f"{directory} was started with other versions of packages, which leave room for "
            "another number of samples: install those of its environment.json or give another --out"
        )
    if config.starts_real and not saved:
        sample = task.sample
        images = choose_targets(sample.images, sample.labels, metadata.store.per_class)
        store.adopt(images.to(task.runtime.device))
    networks = build_networks(task)
    Loop(task, store, _stages(task, store, networks), directory, saved).run()
    if metadata.store.soft_labels:
        store = with_soft_labels(task, store, metadata.store, choose_teachers(task, networks))
    names = source.titles
    save_png(real_grid(task.sample.images, task.sample.labels, names), directory / "real.png")
    save_png(sample_grid(store, names), directory / "samples.png")
    artifact.save(directory / artifact.FILE_NAME, store, metadata)


def _refuse_changed_data(source: Source, directory: Path) -> None:
    saved = load_checkpoint(directory / CHECKPOINTS)
    if saved and saved.fingerprint != source.fingerprint:
        raise InputError(
            f"the data in {source.location} has changed since the run in {directory} was "
            "started: give another --out"
        )


def sized_metadata(
    config: Config, source: Source, image_size: int, normalisation: Normalisation
) -> Metadata:
    """What the file will say about itself, its stored set sized to the budget."""
    shape = (len(source.class_names), source.channels, image_size)
    budget = config.bytes or ipc_to_bytes(config.ipc or 1, *shape)
    # where things lie on the maker's machine is nobody else's business, nor how they were read;
    # classes stand beside
    untold = ("data", "out", "classes", "reader", "in_memory")
    options = {k: v for k, v in changed_options(config).items() if k not in untold}
    made = {"options": options, "data": source.fingerprint, "versions": versions()}
    if source.decoder is not None:
        made["decoder"] = source.decoder

    def describe(spec: StoreSpec) -> Metadata:
        return Metadata(
            store=spec,
            class_names=source.class_names,
            mean=normalisation.mean,
            std=normalisation.std,
            budget=budget,
            made=made,
        )

    spec = size_store(
        budget,
        config.store,
        num_classes=shape[0],
        channels=source.channels,
        image_size=image_size,
        weigh=lambda spec: artifact.file_size(describe(spec)),
        real=int(np.bincount(source.train.labels, minlength=shape[0]).min()),
    )
    return describe(spec)


def _stages(task: Task, store: StoredSet, networks: FeatureNetworks) -> list[Stage]:
    steps = task.config.training.steps
    before = round(steps * task.config.warm_share)
    stages: list[Stage] = []
    if before and not task.config.starts_real:
        stages.append(WarmStart(task, store, before))
    if steps > before:
        bank = build_bank(task, networks)
        stages.append(Match(task, store, networks, bank, steps - before))
    if task.config.trajectory.steps:
        stages.append(Trajectory(task, store, build_experts(task)))
    return stages
