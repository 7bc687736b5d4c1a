"""A matching step with the real side looked up, against the same step with real batches.

The rival is what published methods do: real images of every class go through the network of the
step. All classes are one batch here, which favours it over their loops over classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch

from benchmarks.case import Case
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.run import sized_metadata
from gencond_fast.condensation.task import (
    Task,
    choose_image_size,
    open_config,
    open_task,
    set_up,
)
from gencond_fast.config import Config
from gencond_fast.models.store import StoredSet
from gencond_fast.models.stores import build_store
from gencond_fast.options import resolve
from gencond_fast.progress import PlainReporter
from gencond_fast.rng import derive_seed

REAL_BATCH = 256  # images a class, as DM and its successors take
# one random network and the identity: what is measured does not depend on which or how many
_NETWORKS = {"random": 1, "trained": 0, "augmentations": 1, "images_per_class": REAL_BATCH}


def cases(data: str, ipc: int, batches: tuple[int, ...]) -> Iterator[Case]:
    """A step of either format and each number of generated images a class.

    The network and its precision are the defaults.

    Args:
        data: path or name of the data set.
        ipc: the budget.
        batches: generated images of a class in a step.
    """
    for kind, batch in product(("generator", "pixels"), batches):
        rivals = {
            "gencond_fast (table)": None,
            f"real batches of {REAL_BATCH} a class": REAL_BATCH,
        }
        options = {
            "data": data,
            "out": "",
            "ipc": ipc,
            "store": {"format": kind},
            "training": {"batch_per_class": batch},
        }
        calls = {name: _step(options, real) for name, real in rivals.items()}
        name = Path(data).name
        yield Case({"data": name, "ipc": ipc, "format": kind, "generated": batch}, calls)


def _step(options: dict[str, object], real_batch: int | None) -> Callable[[], object]:
    """One optimiser step, ready to be called again and again."""
    config = resolve(options | {"networks": {**_NETWORKS, "real_batch": real_batch}})
    task, store = _open(config)
    networks_in_place = build_networks(task)
    match = Match(task, store, networks_in_place, build_bank(task, networks_in_place), steps=1000)
    optimizer = torch.optim.Adam(store.parameter_groups(), lr=match.rate)
    count = 0

    def step() -> None:
        nonlocal count
        terms = match.terms(count)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(store.parameters(), config.training.clip)
        optimizer.step()
        count += 1

    return step


def _open(config: Config) -> tuple[Task, StoredSet]:
    reporter = PlainReporter()
    source = open_config(config, reporter)
    task = open_task(set_up(config, source, choose_image_size(config, source), reporter))
    metadata = sized_metadata(config, source, task.image_size, task.normalisation)
    store = build_store(metadata.store, seed=derive_seed(config.seed, "store"))
    return task, store.to(task.runtime.device)
