"""Classifiers of timm and torchvision, where these are installed: `timm:NAME`."""

from __future__ import annotations

import importlib
import re
from typing import Any

from torch import nn

from gencond_fast.errors import InputError

_LIBRARIES = ("timm", "torchvision")


def is_library(name: str) -> bool:
    """Whether a name of a model is `timm:NAME` or `torchvision:NAME`."""
    return name.partition(":")[0] in _LIBRARIES and ":" in name


def library_identity(name: str) -> str:
    """The name, with the version of its library.

    Raises:
        InputError: the library is not installed.
    """
    library = _import(name)
    return f"{name} {getattr(library, '__version__', 'unknown')}"


def build_from_library(name: str, channels: int, num_classes: int, image_size: int) -> nn.Module:
    """A network of a library with random weights; nothing is downloaded.

    Raises:
        InputError: the library is not installed, or the name is none of a classifier.
        Exception: whatever the library raises.
    """
    library, (source, _, model) = _import(name), name.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9_.\-]+", model):  # timm takes hf-hub:... to download from
        raise InputError(f"model {name!r}: write {source}:NAME, as in {source}:resnet50")
    if source == "timm":
        return _build_timm(library, model, channels, num_classes, image_size)
    if model not in library.models.list_models(library.models):
        raise InputError(
            f"model {name!r}: torchvision has no such classifier: choose one of "
            "torchvision.models.list_models(torchvision.models)"
        )
    if channels != 3:
        raise InputError(
            f"model {name!r} takes images of 3 channels, and these have {channels}: choose a "
            "network of timm or of this package"
        )
    side = {"image_size": image_size} if model.startswith("vit") else {}
    built: nn.Module = library.models.get_model(
        model, weights=None, num_classes=num_classes, **side
    )
    return built


def _build_timm(
    library: Any, model: str, channels: int, num_classes: int, image_size: int
) -> nn.Module:
    options = {"pretrained": False, "num_classes": num_classes, "in_chans": channels}
    try:  # transformers are built for one side
        built: nn.Module = library.create_model(model, **options, img_size=image_size)
    except TypeError:  # and convolutional networks know no such option
        built = library.create_model(model, **options)
    return built


def _import(name: str) -> Any:
    library = name.partition(":")[0]
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise InputError(
            f"model {name!r} needs {library}, which is not installed: pip install {library}"
        ) from None
