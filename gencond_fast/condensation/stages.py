"""The stages that a stored set goes through, by the options."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from gencond_fast.condensation.bank import fill_bank, load_bank
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.code_fit import CodeFit
from gencond_fast.condensation.experts import build_experts
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.private.bank import build_private_bank
from gencond_fast.condensation.private.task import PrivateTask
from gencond_fast.condensation.selection import first_images
from gencond_fast.condensation.stage import Stage
from gencond_fast.condensation.task import Task
from gencond_fast.condensation.trajectory import Trajectory
from gencond_fast.condensation.warm_start import WarmStart
from gencond_fast.config.steps import coding_steps, matching_steps
from gencond_fast.store.generator import Generator
from gencond_fast.store.store import StoredSet


def build_stages(
    task: Task,
    store: StoredSet,
    rows: Tensor,
    networks: FeatureNetworks | None,
    directory: Path,
    partition: ClassPartition,
) -> list[Stage]:
    """All of them in order, with the statistics and experts that they need.

    Args:
        task: data, options, machine.
        store: what this rank keeps of the stored set.
        rows: of the sample: real images in the order in which stored samples start as them.
        networks: where there is matching.
        directory: of the run.
        partition: who keeps what.
    """
    config = task.config
    steps = matching_steps(config, task.image_size)
    before = round(steps * config.warm_share)
    stages: list[Stage] = []
    coding = coding_steps(config, partition.spec.samples)
    if isinstance(store, Generator) and coding:
        stages.append(_coding(task, store, rows, coding, partition))
    if before and not config.starts_as_images:
        stages.append(WarmStart(task, store, rows, before, partition))
    if networks and steps > before:
        if isinstance(task, PrivateTask):
            bank = build_private_bank(task, networks, directory)
        else:
            tables = fill_bank(task, networks, partition.ranks)
            task.source.train.release_cache()  # nothing reads these images again
            bank = load_bank(task, networks, tables)
        stages.append(Match(task, store, networks, bank, steps - before, partition))
    if config.trajectory.steps:
        stages.append(Trajectory(task, store, build_experts(task, partition.ranks), partition))
    return stages


def _coding(
    task: Task, store: Generator, rows: Tensor, steps: int, partition: ClassPartition
) -> CodeFit:
    images = first_images(task, rows, partition.spec.per_class)
    return CodeFit(task, store, partition.cut(images).to(task.runtime.device), steps, partition)
