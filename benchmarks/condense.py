"""A matching step with the real side looked up, against steps with real batches.

One rival is our own step with real images of every class through the network, all classes in one
batch. The other is the step of DM as scripts of the field write it: a loop over classes, eager
float32, a new random network every time. All of them put the same number of generated images
through the same architecture; DM learns pixels whatever the format of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.breakdown import Stopwatch, watched
from benchmarks.case import Case, Measure
from benchmarks.memory import peak_mb
from benchmarks.peers.dm_loop import DmLoop, mean_distance
from benchmarks.timing import Timing
from gencond_fast.condensation.bank import BankEntry, build_bank
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import FeatureNetworks, build_networks
from gencond_fast.condensation.run import sized_metadata
from gencond_fast.condensation.sharing import deal_classes
from gencond_fast.condensation.stage import build_optimizer
from gencond_fast.condensation.task import (
    Task,
    choose_image_size,
    open_config,
    open_task,
    set_up,
)
from gencond_fast.config import Config
from gencond_fast.config.options import resolve
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier
from gencond_fast.store.store import StoredSet
from gencond_fast.store.stores import build_store
from gencond_fast.system.progress import PlainReporter
from gencond_fast.system.rng import derive_seed

REAL_BATCH = 256  # images a class, as DM and its successors take
# one random network: what is measured does not depend on which or how many
_NETWORKS: dict[str, Any] = {"random": 1, "trained": 0, "real_per_class": REAL_BATCH}
_TABLE, _DM = "gencond_fast (table)", "DM, loop over classes"
_LIVE = f"real batches of {REAL_BATCH} a class"
_CHECKED = 32  # real images of a class, all of which are in every step
_TOLERANCE = 1e-4


def cases(
    data: str, ipc: int, batches: tuple[int, ...], device: Literal["cpu", "cuda"] = "cpu"
) -> Iterator[Case]:
    """A step of each format and each number of generated images a class.

    Network, losses and, for ours, precision are the defaults.

    Args:
        data: path or name of the data set.
        ipc: the budget.
        batches: generated images of a class in a step.
        device: of all of them; the parts of our step are watched on a CPU alone, as a GPU goes on
            while its next part is entered.
    """
    check_agreement(data, device)
    for kind, batch in product(("dct", "pixels", "generator"), batches):
        watch = Stopwatch()
        options = {
            "data": data,
            "out": "",
            "ipc": ipc,
            "device": device,
            "store": {"format": kind},
            "training": {"batch_per_class": batch},
            "networks": _NETWORKS,
        }
        live = options | {"networks": {**_NETWORKS, "real_batch": REAL_BATCH}}
        parts = _Parts(resolve(options))
        calls: dict[str, Callable[[], object]] = {
            _TABLE: parts.step(watch),
            _LIVE: _Parts(resolve(live)).step(Stopwatch()),
            _DM: dm_loop(parts.task, batch),
        }
        key = {"data": Path(data).name, "ipc": ipc, "format": kind, "generated": batch}
        generated = batch * parts.task.num_classes
        yield Case(key, calls, measure=_measure(calls, watch, generated, device))


def _measure(
    calls: Mapping[str, Callable[[], object]], watch: Stopwatch, generated: int, device: str
) -> Measure:
    """Speed and memory of all, and the parts of our step, over the steps that were timed."""

    def measure(timings: Mapping[str, Timing]) -> dict[str, dict[str, float | None]]:
        parts = watch.medians(timings[_TABLE].rounds) if device == "cpu" else {}
        found: dict[str, dict[str, float | None]] = {
            name: {
                "peak_mb": peak_mb(call, device),
                "steps_per_second": 1e3 / timings[name].median,
                "images_per_second": 1e3 * generated / timings[name].median,
            }
            for name, call in calls.items()
        }
        found[_TABLE] |= {f"{part}_ms": value for part, value in parts.items()}
        return found

    return measure


class _Parts:
    """What a step is made of."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.task, self.store = _open(config)
        self.networks: FeatureNetworks = build_networks(self.task)
        self.bank: list[BankEntry] = build_bank(self.task, self.networks)

    def step(self, watch: Stopwatch) -> Callable[[], object]:
        """One optimiser step, ready to be called again and again."""
        store, clip = self.store, self.config.training.clip
        task, networks, bank = watched(self.task, self.networks, self.bank, watch)
        partition = deal_classes(task, store.spec, networks, Ranks())
        match = Match(task, store, networks, bank, steps=1000, partition=partition)
        optimizer = build_optimizer(store, match)
        count = 0

        def step() -> None:
            nonlocal count
            watch.start()
            terms = match.terms(count)
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            watch.enter("optimiser")
            torch.nn.utils.clip_grad_norm_(store.parameters(), clip)
            optimizer.step()
            watch.enter("data")
            count += 1

        return step


def dm_loop(task: Task, generated: int) -> DmLoop:
    """The rival on the images and with the architecture of a task."""
    options, shape = task.config.networks, (task.num_classes, task.image_size)

    def build(seed: int) -> Classifier:
        return build_classifier(
            options.model, task.source.channels, *shape, seed=seed, width=options.width
        )

    images = task.normalisation(task.sample.images.to(task.runtime.device))
    counts = torch.bincount(task.sample.labels).tolist()
    return DmLoop(images, counts, generated, REAL_BATCH, build)


def check_agreement(data: str, device: Literal["cpu", "cuda"] = "cpu") -> None:
    """Raises AssertionError unless our live mean discrepancy is DM's loss, gradients included.

    Of the same real and stored images under the same network, in float32.
    """
    options: dict[str, Any] = {
        "data": data,
        "out": "",
        "ipc": 10,
        "device": device,
        "precision": "float32",
        "compile": "off",
        "store": {"format": "pixels", "per_class": 4},
        "networks": {
            **_NETWORKS,
            "num_augmentations": 1,
            "real_per_class": _CHECKED,
            "train_images": _CHECKED,
            "real_batch": _CHECKED,
        },
        "losses": {"intra": 0.0, "inter": 0.0, "cross_entropy": 0.0},
        "training": {"batch_per_class": None},
    }
    parts = _Parts(resolve(options))
    task, store, networks = parts.task, parts.store, parts.networks
    partition = deal_classes(task, store.spec, networks, Ranks())
    match = Match(task, store, networks, parts.bank, steps=1, partition=partition)
    # ours is the mean over classes, of features in units of their spread
    ours = match.terms(0)["mean"] * task.num_classes * parts.bank[0].scale.square()
    counts = torch.bincount(task.sample.labels).tolist()
    real = task.normalisation(task.sample.images.to(device)).split(counts)
    stored = task.normalisation(store(torch.arange(store.spec.samples, device=device)))
    theirs = mean_distance(
        networks.features, zip(real, stored.split(store.spec.per_class), strict=True)
    )
    pixels = list(store.parameters())
    gradients = [torch.autograd.grad(loss, pixels)[0] for loss in (ours, theirs)]
    _agree("loss", ours.detach(), theirs.detach())
    _agree("gradient", *gradients)


def _agree(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    off = float((ours - theirs).norm() / theirs.norm())
    assert off <= _TOLERANCE, f"{_DM}: the {what} is off by {off:.1e} of its size"


def _open(config: Config) -> tuple[Task, StoredSet]:
    reporter = PlainReporter()
    source = open_config(config, reporter)
    task = open_task(set_up(config, source, choose_image_size(config, source), reporter))
    metadata = sized_metadata(config, source, task.image_size, task.normalisation)
    store = build_store(metadata.store, seed=derive_seed(config.seed, "store"))
    return task, store.to(task.runtime.device)
