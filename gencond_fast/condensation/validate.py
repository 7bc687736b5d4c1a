"""Networks, discrepancies and data that do not fit together are refused before any work."""

from __future__ import annotations

import math

from gencond_fast.condensation.networks import plan_networks
from gencond_fast.condensation.whole_split import BATCH
from gencond_fast.config import Config
from gencond_fast.data.source import Source
from gencond_fast.discrepancy import DISCREPANCIES, build_discrepancy
from gencond_fast.errors import InputError
from gencond_fast.models.classifier import batch_norms
from gencond_fast.models.registry import build_classifier
from gencond_fast.store.entropy import require_coder
from gencond_fast.system.words import counted


def check_choices(config: Config, source: Source, image_size: int) -> None:
    """Raise InputError unless network and discrepancies exist and fit the data and each other."""
    if config.store.soft_labels:
        require_coder()
    for name in config.losses.discrepancies:
        build_discrepancy(name)
    options = config.networks
    shape = (source.channels, len(source.class_names), image_size)
    for model in options.models:
        has_norms = bool(batch_norms(build_classifier(model, *shape, seed=0)))
        _check_norms(config, model, has_norms)
    if config.losses.adversarial and config.training.micro_batch:
        raise InputError(
            "losses.adversarial looks at all images of a step together, and "
            f"training.micro_batch is {config.training.micro_batch}: leave one of them out"
        )
    for name in _weighed(config):
        whole = DISCREPANCIES[name].needs_batchnorm or DISCREPANCIES[name].needs_images
        if config.training.micro_batch and whole:
            raise InputError(
                f"discrepancy {name!r} looks at all images of a step together, and "
                f"training.micro_batch is {config.training.micro_batch}: leave that out, and set "
                "training.class_batch or training.batch_per_class if memory is short"
            )
        if DISCREPANCIES[name].needs_trained and options.trained == 0:
            raise InputError(
                f"discrepancy {name!r} needs trained networks, and networks.trained is 0: set it "
                "to 1 or more"
            )
    if config.training.selection == "easy" and options.trained == 0:
        raise InputError(
            "training.selection is easy, which trained networks decide on, and "
            "networks.trained is 0: set it to 1 or more"
        )
    _check_every_step(config)
    _check_parts(config, len(source.train))


def _check_norms(config: Config, model: str, has_norms: bool) -> None:
    """An architecture with batch norms or without them, and what cannot or must have them."""
    between = config.networks.interpolated
    if between and has_norms:
        raise InputError(
            f"networks.interpolated is {between}, and the batch norms of {model!r} have no "
            "statistics for weights between others: set networks.interpolated=0 or "
            "networks.model=convnet3"
        )
    option = "model" if model == config.networks.model else "mixture"
    for name in _weighed(config):
        if DISCREPANCIES[name].needs_batchnorm and not has_norms:
            raise InputError(
                f"discrepancy {name!r} needs batch norms, and networks.{option}={model} has none: "
                f"set networks.{option}=convnet3bn or resnet18"
            )


def _check_parts(config: Config, images: int) -> None:
    """Weights of an expert are kept after whole steps."""
    options = config.trajectory
    steps = math.ceil(images / BATCH)
    parts = options.parts_of(images)
    if options.steps and parts > steps:
        raise InputError(
            f"trajectory.parts is {parts}, and an epoch of {counted(images, 'image')} "
            f"has {counted(steps, 'step')} of {BATCH}: set trajectory.parts={steps} or less"
        )


def _weighed(config: Config) -> list[str]:
    return [name for name, weight in config.losses.discrepancies.items() if weight != 0.0]


def _check_every_step(config: Config) -> None:
    """A step takes any of the networks, and must have something to minimise under it."""
    losses = config.losses
    of_trained = [name for name in _weighed(config) if DISCREPANCIES[name].needs_trained]
    if losses.cross_entropy:
        of_trained.append("cross_entropy")
    others = losses.alone or set(_weighed(config)) - set(of_trained)
    idle = [plan for plan in plan_networks(config.networks) if not plan.trained]
    if idle and not others and config.warm_share < 1:
        raise InputError(
            f"{' and '.join(of_trained)} count for trained networks alone, and {len(idle)} of the "
            "networks are random or nearly so: set networks.random=0 and networks.interpolated=0, "
            "or give another term of the losses a weight"
        )
