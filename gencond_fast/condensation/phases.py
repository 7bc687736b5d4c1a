"""The phases of a condensation and their rough shares of its time, for the progress line."""

from __future__ import annotations

from gencond_fast.condensation.code_fit import CODING_BATCH
from gencond_fast.condensation.loop import PHASE
from gencond_fast.condensation.measure import chosen_images
from gencond_fast.condensation.networks import plan_networks
from gencond_fast.condensation.private.task import PrivateTask
from gencond_fast.condensation.sharing import classes_of_step
from gencond_fast.condensation.task import Task
from gencond_fast.config import Config
from gencond_fast.config.steps import coding_steps, labeller_epochs
from gencond_fast.store.spec import StoreSpec

_TRAINING = 3  # forward passes that take as long as a forward and a backward pass
_FOLLOWING = 9  # as long as an inner step of trajectories and its share of the gradient
_BATCH = 128  # of feature networks


def expected_phases(
    task: Task, spec: StoreSpec, *, matches: bool, networks: bool, labelled: bool
) -> dict[str, float]:
    """Forward passes of an image through a network, by phase, with nothing in the cache.

    Args:
        task: data and options.
        spec: of the stored set.
        matches: whether there are steps of matching, which need statistics.
        networks: whether feature networks are needed.
        labelled: whether the file has a labeller.
    """
    config, images = task.config, len(task.source.train)
    plans = plan_networks(config.networks)
    trained = sum(plan.steps for plan in plans if plan.end is None) * _BATCH * _TRAINING
    statistics = "release" if isinstance(task, PrivateTask) else "real statistics"
    measured = len(plans) * config.networks.num_augmentations
    found = {
        "feature networks": trained if networks else 0,
        statistics: len(chosen_images(task)) * measured if matches else 0,
        **_experts(config, images),
        PHASE: _steps(config, spec),
        **_labels(task, spec, trained, labelled=labelled),
    }
    return {name: float(work) for name, work in found.items() if work}


def _experts(config: Config, images: int) -> dict[str, int]:
    options = config.trajectory
    count = options.experts if options.steps else 0
    work = images * options.epochs * _TRAINING
    return {f"expert {index + 1} of {count}": work for index in range(count)}


def _steps(config: Config, spec: StoreSpec) -> int:
    training, trajectory = config.training, config.trajectory
    coded = coding_steps(config, spec.samples) * min(CODING_BATCH, spec.samples) * _TRAINING
    per_class = min(training.batch_per_class or spec.per_class, spec.per_class)
    step = classes_of_step(config, spec.num_classes) * per_class * _TRAINING
    followed = trajectory.inner_steps * min(trajectory.batch_size, spec.samples) * _FOLLOWING
    return coded + (training.steps or 0) * step + trajectory.steps * followed


def _labels(task: Task, spec: StoreSpec, trained: int, *, labelled: bool) -> dict[str, int]:
    config, images = task.config, len(task.source.train)
    if labelled:
        return {"teacher 1 of 1": images * labeller_epochs(config, images) * _TRAINING}
    if not spec.soft_labels:
        return {}
    options, count = config.labels, config.teachers.count
    found: dict[str, int] = {}
    if options.source == "full_data":
        work = images * config.teachers.epochs * _TRAINING
        found = {f"teacher {index + 1} of {count}": work for index in range(count)}
    elif options.epsilon:
        found = {"label networks": 2 * trained}
    teachers = count if options.source == "full_data" else config.networks.trained
    return found | {"soft labels": spec.samples * options.num_augmentations * teachers}
