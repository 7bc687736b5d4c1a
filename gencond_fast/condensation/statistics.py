"""Feature networks and statistics made ahead of the runs that will use them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from gencond_fast.condensation.bank import Bank, fill_bank, with_image_cache
from gencond_fast.condensation.sharing import shared_networks
from gencond_fast.condensation.task import (
    choose_image_size,
    open_config,
    open_task,
    set_up,
)
from gencond_fast.condensation.validate import check_choices
from gencond_fast.config import Config
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.system.cache import cache_directory
from gencond_fast.system.progress import Reporter


@dataclass(frozen=True)
class Statistics:
    """What a statistics bank holds, and what it took.

    Attributes:
        networks: feature networks, each with a table.
        augmentations: under which each table has its moments.
        images: real images behind the tables.
        classes: C.
        features: D, columns of the moments, of each architecture.
        frequencies: K of the characteristic function; None where no discrepancy needs it.
        image_size: side in pixels.
        measured: tables that this call made; the others were in the cache.
        ranks: processes that shared the work.
        bytes: of all tables on the disk.
        seconds: that the call took.
        cache: the folder of the tables.
    """

    networks: int
    augmentations: int
    images: int
    classes: int
    features: tuple[int, ...]
    frequencies: int | None
    image_size: int
    measured: int
    ranks: int
    bytes: int
    seconds: float
    cache: Path


def build_statistics(
    config: Config, reporter: Reporter | None = None, ranks: Ranks | None = None
) -> Statistics:
    """Trains the feature networks and measures the real data ahead of runs that share options.

    A `condense` with the same data, image size, seed, precision and `networks` options finds both
    in the cache, and the characteristic function if it was asked for here. Called again after an
    interruption it continues.

    Args:
        config: all options; `out`, the budget and training do not matter, and of the losses only
            whether a discrepancy needs the characteristic function.
        reporter: told of progress; silent when None.
        ranks: those that share the work, all of which call this; None for one alone.

    Raises:
        InputError: the data or an option cannot be used.
        OSError: the cache cannot be written.
    """
    if config.privacy.on:
        raise InputError(
            "stats keeps tables without noise, which privacy.epsilon forbids: leave it out, or "
            "condense, which makes the noised table itself"
        )
    start = time.monotonic()
    ranks, reporter = ranks or Ranks(), reporter or Reporter()
    source = open_config(config, reporter)
    ranks.check_same_data(config.data, source.fingerprint)
    image_size = choose_image_size(config, source)
    check_choices(config, source, image_size)
    setting = set_up(config, source, image_size, reporter)
    task = open_task(with_image_cache(setting, ranks))
    ranks.check_same_runtime(task.runtime.describe())
    ranks.connect(task.runtime.device)
    networks = shared_networks(task, ranks)
    bank = fill_bank(task, networks, ranks)
    source.tell_left_out(reporter.message)
    return Statistics(
        networks=len(networks),
        augmentations=config.networks.num_augmentations,
        images=_measured_images(bank),
        classes=task.num_classes,
        features=networks.feature_dims,
        frequencies=config.networks.frequencies if bank.waves else None,
        image_size=image_size,
        measured=bank.measured,
        ranks=ranks.world_size,
        bytes=sum(path.stat().st_size for path in bank.paths),
        seconds=time.monotonic() - start,
        cache=cache_directory("statistics"),
    )


def _measured_images(bank: Bank) -> int:
    """Images behind the tables, without those that were left out."""
    with safe_open(bank.moments[0], framework="pt") as file:
        return int(file.get_tensor("count").sum())
