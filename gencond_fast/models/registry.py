"""Names of the classifiers, for feature networks and for evaluation alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from gencond_fast.errors import InputError
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.convnet import convnet
from gencond_fast.models.resnet import resnet18

_BUILDERS: dict[str, Callable[..., Classifier]] = {
    "convnet3": partial(convnet, depth=3),
    "convnet4": partial(convnet, depth=4),
    "convnet5": partial(convnet, depth=5),
    "convnet3bn": partial(convnet, depth=3, norm="batch"),
    "resnet18": resnet18,
}

MODEL_NAMES = tuple(_BUILDERS)


def build_classifier(
    name: str,
    channels: int,
    num_classes: int,
    image_size: int,
    *,
    seed: int,
    width: int | None = None,
) -> Classifier:
    """Builds a classifier whose initial weights depend on `seed` alone.

    Args:
        name: one of `MODEL_NAMES`.
        channels: input channels, 1 or 3.
        num_classes: number of logits.
        image_size: side of the square input in pixels.
        seed: of the initial weights; the global random state is left as it was.
        width: channels a block, for the ConvNets; their default (128) when None.

    Raises:
        InputError: the name is unknown, or a width is given to a network that has none.
    """
    if name not in _BUILDERS:
        raise InputError(f"unknown model {name!r}: choose one of {', '.join(MODEL_NAMES)}")
    if width is not None and not name.startswith("convnet"):
        raise InputError(f"model {name!r} has a fixed width: leave the width option out")
    options = {} if width is None else {"width": width}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _BUILDERS[name](channels, num_classes, image_size, **options)
