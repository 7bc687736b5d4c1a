"""What several ranks make sure of, and make one after another, before they share steps."""

from __future__ import annotations

from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.networks import FeatureNetworks, build_networks, find_networks
from gencond_fast.condensation.task import Task
from gencond_fast.config import Config
from gencond_fast.data.source import Source
from gencond_fast.discrepancy import required
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.models.classifier import batch_norms
from gencond_fast.store.spec import StoreSpec


def check_enough(config: Config, source: Source, ranks: Ranks) -> None:
    """Raise InputError unless every rank has something to do in every step of `condense`."""
    drawn = classes_of_step(config, len(source.class_names))
    if drawn < ranks.world_size:
        raise InputError(
            f"a step has {drawn} classes, too few for {ranks.world_size} ranks: give torchrun "
            f"--nproc-per-node {drawn} or less"
        )


def classes_of_step(config: Config, num_classes: int) -> int:
    """How many classes a matching step has."""
    return min(config.training.class_batch or num_classes, num_classes)


def deal_classes(
    task: Task, spec: StoreSpec, networks: FeatureNetworks | None, ranks: Ranks
) -> ClassPartition:
    """Who keeps which classes of a stored set.

    Every rank keeps all of them where a step looks at the statistics of a whole batch.
    """
    losses, steps = task.config.losses, task.config.trajectory.steps
    whole = any(each.needs_batchnorm for each in required(losses.discrepancies))
    if steps and not whole:
        model = task.config.networks.model
        followed = networks.classifier if networks else task.classifier(model, "network", 0)
        whole = bool(batch_norms(followed))
    return ClassPartition(
        spec,
        classes_of_step(task.config, spec.num_classes),
        seed=task.config.seed,
        ranks=ranks,
        divided=not whole,
    )


def shared_networks(task: Task, ranks: Ranks) -> FeatureNetworks:
    """The feature networks, which the first rank trains and the others take from the cache.

    Raises:
        InputError: the model is unknown, or a rank does not see the first one's cache.
        OSError: the cache cannot be written.
    """
    with ranks.first_before_others():
        return build_networks(task) if ranks.is_main else find_networks(task)
