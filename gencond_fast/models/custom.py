"""Classifiers that others wrote: `module:function` of the user, or `timm:NAME` of a library."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import sysconfig
import traceback
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gencond_fast.errors import InputError
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.libraries import build_from_library, is_library, library_identity

_INSTALLED = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")})
_BUILT: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class CustomClassifier(Classifier):
    """Any module that maps images to logits, which also stand for its features.

    Args:
        network: maps normalised images [B, channels, S, S] to logits [B, num_classes].
        num_classes: C.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        nn.Module.__init__(self)
        self.body = network
        self.feature_dim = num_classes
        self.classifier = nn.Identity()


def is_own(name: str) -> bool:
    """Whether a name of a model is `module:function`, and so code that is not of this package."""
    return ":" in name


def own_identity(name: str) -> str:
    """The name, with a digest of the file that it is defined in, or the version of its library.

    Raises:
        InputError: the module is missing or cannot be imported.
    """
    if is_library(name):
        return library_identity(name)
    file = getattr(_import(name), "__file__", None)
    if file is None:
        return name
    return f"{name} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"


def build_own(name: str, channels: int, num_classes: int, image_size: int) -> Classifier:
    """Calls function(channels, num_classes, image_size) of a module and tries what it returns.

    The module is looked for in the current folder first, as by `python -m`. A network that is no
    `Classifier` becomes an `CustomClassifier`.

    Raises:
        InputError: module or function are missing, one of them raises, or what it returns is no
            new module of the right output.
    """
    function = partial(build_from_library, name) if is_library(name) else _find(name)
    network = _tried(name, "the function", lambda: function(channels, num_classes, image_size))
    if not isinstance(network, nn.Module):
        raise InputError(
            f"model {name!r}: the function returns {type(network).__name__}: let it return a "
            "torch.nn.Module"
        )
    if network in _BUILT:
        raise InputError(
            f"model {name!r}: the function returns the same network again, trained or not: let it "
            "build a new one in every call"
        )
    _BUILT.add(network)
    _check_output(name, network, torch.zeros(2, channels, image_size, image_size), num_classes)
    return network if isinstance(network, Classifier) else CustomClassifier(network, num_classes)


def _check_output(name: str, network: nn.Module, images: Tensor, num_classes: int) -> None:
    training = network.training
    with torch.no_grad():
        logits = _tried(name, "the network", lambda: network.eval()(images))
    network.train(training)
    found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != [2, num_classes]:
        raise InputError(
            f"model {name!r}: of images {list(images.shape)} the network makes {found} and not "
            f"[2, {num_classes}]: let it return logits, one a class"
        )


def _find(name: str) -> Callable[..., Any]:
    module, function = _import(name), name.partition(":")[2]
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(
            f"model {name!r}: {module.__file__ or module.__name__} has no function {function!r}"
        )
    return found


def _import(name: str) -> ModuleType:
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise InputError(f"model {name!r}: write module:function, as in nets:small")
    folder = os.getcwd()
    if not sys.flags.safe_path and folder not in sys.path:
        sys.path.insert(0, folder)  # for good, since modules may import others later on
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _complaint(name, "the module", error) from None
        raise InputError(
            f"model {name!r}: there is no module {module!r} in {folder} or among what is "
            "installed: give one that Python can import from here"
        ) from None
    except Exception as error:
        raise _complaint(name, "the module", error) from None


def _tried(name: str, what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except InputError:
        raise
    except Exception as error:
        raise _complaint(name, what, error) from None


def _complaint(name: str, what: str, error: Exception) -> InputError:
    """One sentence, with the last line that was run of what is not installed."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without that in this file
    own = [f for f in frames if not f.filename.startswith((*_INSTALLED, "<frozen"))]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    said = " ".join(str(error).split())
    return InputError(f"model {name!r}: {what} raises {type(error).__name__}: {said}{place}")
