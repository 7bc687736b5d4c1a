"""What is promised, and how much noise that takes."""

from __future__ import annotations

import math
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from gencond_fast.config import Config
from gencond_fast.data.source import Source
from gencond_fast.distributed.ranks import world_size
from gencond_fast.errors import InputError

_PACKAGE = "dp-accounting"
_ASSUMED = (
    "public: class names, images of each class, image side and channels, all options; "
    "one release: guarantees of further runs on the same images add up"
)


def noise_multiplier(epsilon: float, delta: float) -> float:
    """Standard deviation of the noise over the sensitivity.

    The least at which one Gaussian mechanism is (epsilon, delta)-differentially private by its
    exact condition (Balle and Wang, 1805.06530, theorem 8), as dp-accounting solves it.

    Raises:
        InputError: the package is not installed.
    """
    require_accounting()
    from dp_accounting.pld.common import DifferentialPrivacyParameters
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    wanted = DifferentialPrivacyParameters(epsilon, delta)
    return float(GaussianPrivacyLoss.from_privacy_guarantee(wanted).standard_deviation)


def sensitivity(config: Config) -> float:
    """How far one image can move all released sums together, in the L2 norm.

    In each of T tables an image adds a vector of norm `privacy.clip` at most to the sum of its
    class, so sqrt(T) times that to all of them; replaced, it moves them by twice as much.
    """
    return 2.0 * config.privacy.clip * math.sqrt(tables(config))


def noise_deviation(config: Config) -> float:
    """Standard deviation of the noise on each released sum."""
    options = config.privacy
    assert options.epsilon is not None
    assert options.delta is not None
    return noise_multiplier(options.epsilon, options.delta) * sensitivity(config)


def tables(config: Config) -> int:
    """T: one for each network and augmentation."""
    return config.networks.random * config.networks.num_augmentations


def describe_guarantee(config: Config) -> dict[str, Any]:
    """The guarantee of a file as plain values, for its metadata and for people.

    Raises:
        InputError: the package that computes it is not installed.
    """
    options = config.privacy
    assert options.epsilon is not None
    assert options.delta is not None
    multiplier = noise_multiplier(options.epsilon, options.delta)
    return {
        "epsilon": options.epsilon,
        "delta": options.delta,
        "neighbours": "data sets that differ in the content of one image (replace one)",
        "mechanism": "Gaussian, once, on clipped class sums of random features",
        "tables": tables(config),
        "clip": options.clip,
        "sensitivity": round(sensitivity(config), 6),
        "noise_multiplier": round(multiplier, 6),
        "accountant": f"{_PACKAGE} {metadata.version(_PACKAGE)}, GaussianPrivacyLoss",
        "assumptions": _ASSUMED,
    }


def check_guarantee(config: Config, source: Source) -> None:
    """Refuses what would promise nothing, or release more than once.

    Raises:
        InputError: delta would allow to give away single images whole, or there are several ranks,
            each of which would draw noise of its own.
    """
    if (ranks := world_size()) > 1:
        raise InputError(
            f"--dp-epsilon noises its table once, in one process, and WORLD_SIZE is {ranks}: start "
            "without torchrun"
        )
    images, delta = len(source.train), config.privacy.delta
    assert delta is not None
    if delta * images >= 1.0:
        raise InputError(
            f"--dp-delta {delta:g} is not below one over the {images:,} training images, so it "
            f"would promise nothing: give {0.1 / images:.0e} or less"
        )


def require_accounting() -> None:
    """Raises InputError unless the package that computes the noise is installed."""
    if find_spec("dp_accounting") is None:
        raise InputError(
            f"--dp-epsilon needs the package {_PACKAGE}, which is not installed: run "
            f"`pip install {_PACKAGE}`"
        )
