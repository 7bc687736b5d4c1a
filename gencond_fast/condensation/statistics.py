"""Feature networks and statistics made ahead of the runs that will use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gencond_fast.cache import cache_directory
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.task import (
    check_names,
    choose_image_size,
    open_config,
    open_task,
)
from gencond_fast.config import Config
from gencond_fast.progress import Reporter


@dataclass(frozen=True)
class Statistics:
    """What a statistics bank holds: moments of real images under networks and augmentations."""

    networks: int
    augmentations: int
    images: int
    classes: int
    features: int
    image_size: int
    cache: Path


def build_statistics(config: Config, reporter: Reporter | None = None) -> Statistics:
    """Trains the feature networks and measures the real data ahead of runs that share options.

    A `condense` with the same data, image size, seed, precision and `networks` options finds both
    in the cache. Called again after an interruption it continues.

    Args:
        config: all options; `out`, the budget, losses and training do not matter.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the data or an option cannot be used.
    """
    reporter = reporter or Reporter()
    source = open_config(config, reporter)
    image_size = choose_image_size(config, source)
    check_names(config, source, image_size)
    task = open_task(config, source, image_size, reporter)
    networks = build_networks(task)
    bank = build_bank(task, networks)
    source.tell_left_out(reporter.message)
    return Statistics(
        networks=len(bank),
        augmentations=len(bank[0].augmentations),
        images=int(bank[0].count.sum()),
        classes=task.num_classes,
        features=networks.feature_dim,
        image_size=image_size,
        cache=cache_directory("statistics"),
    )
