"""Checks of the arguments that the public losses and statistics share."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gencond_fast import _ext
from gencond_fast.errors import InputError
from gencond_fast.functional.transforms import transformed

Impl = Literal["auto", "reference", "fused"]

IMPLS = ("auto", "reference", "fused")
NO_TRANSFORM = "torch.func and forward mode are served by impl='reference'."
_LABEL_DTYPES = (
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)
FEATURE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_features(name: str, features: Tensor) -> None:
    """Raise TypeError or ValueError unless features are [N, D] of a supported dtype."""
    if not isinstance(features, Tensor):
        raise TypeError(f"{name}: features must be a tensor, got {type(features).__name__}.")
    if features.dtype not in FEATURE_DTYPES:
        raise TypeError(
            f"{name}: features must be float32, float16, bfloat16 or float64, got {features.dtype}."
        )
    if features.dim() != 2:
        raise ValueError(
            f"{name}: features must have two dimensions [N, D], got shape {list(features.shape)}."
        )


def check_labels(name: str, labels: Tensor) -> Tensor:
    """The labels as int64; raise TypeError or ValueError unless they are [N] integers."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name}: labels must be a tensor, got {type(labels).__name__}.")
    if labels.dtype not in _LABEL_DTYPES:
        raise TypeError(f"{name}: labels must be integers, got {labels.dtype}.")
    if labels.dim() != 1:
        raise ValueError(
            f"{name}: labels must have one dimension [N], got shape {list(labels.shape)}."
        )
    return labels.to(torch.int64)


def check_samples(name: str, features: Tensor, labels: Tensor) -> Tensor:
    """The labels as int64; raise TypeError or ValueError unless they are [N] beside [N, D]."""
    check_features(name, features)
    labels = check_labels(name, labels)
    if labels.shape[0] != features.shape[0]:
        raise ValueError(
            f"{name}: labels must have shape [{features.shape[0]}], one for each row of features, "
            f"got shape {list(labels.shape)}."
        )
    if labels.device != features.device:
        raise ValueError(
            f"{name}: features are on {features.device} but labels on {labels.device}; "
            "move them to one device."
        )
    return labels


def check_choice(name: str, option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is among those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}: {option} must be one of {', '.join(allowed)}, got {value!r}.")


def check_positive(name: str, option: str, value: float) -> None:
    """Raise ValueError unless the value is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: {option} must be a positive number, got {value}.")


def check_count(name: str, option: str, value: int, least: int) -> None:
    """Raise TypeError or ValueError unless the value is an int of `least` or more."""
    if not isinstance(value, int | torch.SymInt) or isinstance(value, bool):
        raise TypeError(f"{name}: {option} must be an int, got {type(value).__name__}.")
    if value < least:
        raise ValueError(f"{name}: {option} must be {least} or more, got {value}.")


def check_finite(name: str, option: str, value: float) -> None:
    """Raise ValueError unless the value is a finite number."""
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name}: {option} must be a finite number, got {value}.")


def check_channels(name: str, option: str, x: Tensor) -> None:
    """Raise TypeError or ValueError unless x is [N, C, ...] of a supported dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {option} must be a tensor, got {type(x).__name__}.")
    if x.dtype not in FEATURE_DTYPES:
        raise TypeError(
            f"{name}: {option} must be float32, float16, bfloat16 or float64, got {x.dtype}."
        )
    if not 2 <= x.dim() <= 5:
        raise ValueError(
            f"{name}: {option} must have two to five dimensions [N, C, ...], "
            f"got shape {list(x.shape)}."
        )


def check_channel_table(name: str, option: str, table: Tensor, x: Tensor) -> None:
    """Raise TypeError or ValueError unless the table has a number for each channel of x."""
    if not isinstance(table, Tensor):
        raise TypeError(f"{name}: {option} must be a tensor, got {type(table).__name__}.")
    if not table.is_floating_point():
        raise TypeError(f"{name}: {option} must be floating point, got {table.dtype}.")
    if table.dim() != 1 or table.shape[0] != x.shape[1]:
        raise ValueError(
            f"{name}: {option} must have shape [{x.shape[1]}], one entry for each channel, "
            f"got shape {list(table.shape)}."
        )
    if table.device != x.device:
        raise ValueError(
            f"{name}: {option} is on {table.device} but its activations are on {x.device}; "
            "move them to one device."
        )


def takes_reference(name: str, impl: Impl, *tensors: Tensor) -> bool:
    """Whether plain PyTorch computes a statistic, by choice or as it alone has the derivatives.

    Raises:
        InputError: impl="fused" where the C++ op cannot run.
    """
    if impl == "fused":
        for x in tensors:
            _check_fused(name, x)
    return impl == "reference" or (impl == "auto" and transformed(*tensors))


def _check_fused(name: str, x: Tensor) -> None:
    """Raise InputError unless the extension has kernels for statistics on x's device."""
    if transformed(x):
        raise InputError(f"{name}: impl='fused' cannot run: {NO_TRANSFORM}")
    if not _ext.available():
        raise InputError(f"{name}: impl='fused' cannot run: {_ext.reason}")
    if x.device.type == "cuda" and not _ext.cuda_available():
        raise InputError(
            f"{name}: impl='fused' cannot run: the C++ extension was built without CUDA; "
            "install gencond-fast again with nvcc at hand, or use impl='auto'."
        )
    if x.device.type not in ("cpu", "cuda"):
        raise InputError(
            f"{name}: impl='fused' has no kernel for tensors on {x.device}; use impl='auto'."
        )
