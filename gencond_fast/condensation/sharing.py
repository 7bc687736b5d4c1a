"""What several ranks make sure of, and make one after another, before they share steps."""

from __future__ import annotations

from gencond_fast.condensation.networks import FeatureNetworks, build_networks, find_networks
from gencond_fast.condensation.task import Task
from gencond_fast.config import Config
from gencond_fast.data.source import Source
from gencond_fast.distributed import Ranks
from gencond_fast.errors import InputError


def check_enough(config: Config, source: Source, ranks: Ranks) -> None:
    """Raise InputError unless every rank has something to do in every step of `condense`."""
    options, classes = config.training, len(source.class_names)
    shared = {
        f"a step has {min(options.class_batch or classes, classes)} classes": min(
            options.class_batch or classes, classes
        ),
        f"training.warm_batch is {options.warm_batch}": options.warm_batch,
        f"trajectory.batch is {config.trajectory.batch}": config.trajectory.batch,
    }
    for said, parts in shared.items():
        if parts < ranks.world:
            raise InputError(
                f"{said}, too few for {ranks.world} ranks: give torchrun --nproc-per-node {parts} "
                "or less"
            )


def shared_networks(task: Task, ranks: Ranks) -> FeatureNetworks:
    """The feature networks, which the first rank trains and the others take from the cache.

    Raises:
        InputError: the model is unknown, or a rank does not see the first one's cache.
        OSError: the cache cannot be written.
    """
    with ranks.first_before_others():
        return build_networks(task) if ranks.first else find_networks(task)
