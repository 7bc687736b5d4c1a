"""The `gencond` namespace: every schema, and where an op's implementations come from.

The compiled extension defines the schemas and the CPU kernels, and a few CUDA ones. Without it the
same schemas are defined here, so an op exists, and traces alike, on every installation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from gencond_fast import _ext

SCHEMAS = {
    "class_moments": (
        "class_moments(Tensor features, Tensor labels, int num_classes) "
        "-> (Tensor count, Tensor mean, Tensor m2)"
    ),
    "class_moments_update_": (
        "class_moments_update_(Tensor(a!) count, Tensor(b!) mean, Tensor(c!) m2, Tensor features, "
        "Tensor labels) -> ()"
    ),
    "class_moments_backward": (
        "class_moments_backward(Tensor grad_mean, Tensor grad_m2, Tensor features, "
        "Tensor labels, Tensor count, Tensor mean) -> Tensor"
    ),
    "moment_matching": (
        "moment_matching(Tensor features, Tensor labels, Tensor target_count, Tensor target_mean, "
        "Tensor target_m2, float mean_weight, float std_weight, int? stored) "
        "-> (Tensor loss, Tensor count, Tensor mean, Tensor grad_mean, Tensor grad_m2)"
    ),
    "class_order": "class_order(Tensor labels) -> (Tensor order, Tensor offsets)",
    "class_centres": (
        "class_centres(Tensor features, Tensor order, Tensor offsets, Tensor[] tables) -> Tensor"
    ),
    "class_centres_backward": (
        "class_centres_backward(Tensor grad, Tensor order, Tensor offsets, ScalarType dtype) "
        "-> Tensor"
    ),
    "pair_loss": (
        "pair_loss(Tensor features, Tensor order, Tensor offsets, Tensor? centres, "
        "Tensor[] tables, str kind, float parameter, str precision, bool need_grad) "
        "-> (Tensor loss, Tensor grad)"
    ),
    "channel_moments": "channel_moments(Tensor x) -> (Tensor mean, Tensor m2)",
    "channel_moments_backward": (
        "channel_moments_backward(Tensor grad_mean, Tensor grad_m2, Tensor x, Tensor mean) "
        "-> Tensor"
    ),
    "batchnorm_distance": (
        "batchnorm_distance(Tensor x, Tensor mean, Tensor variance) "
        "-> (Tensor distance, Tensor batch_mean, Tensor grad_mean, Tensor grad_m2)"
    ),
}

# of an extension built with CUDA
_CUDA_OPS = (
    *("class_moments", "class_moments_update_", "class_moments_backward"),
    *("channel_moments", "channel_moments_backward"),
)

_library = torch.library.Library("gencond", "FRAGMENT")


def define(name: str) -> None:
    """Define the schema of the op, unless the extension has done so."""
    if not _ext.available():
        _library.define(SCHEMAS[name])


def implement(name: str, function: Callable[..., Any], device: Literal["CPU", "CUDA"]) -> None:
    """Let the function be the op on a device, unless the extension serves it there."""
    by_extension = {
        "CPU": _ext.available(),
        "CUDA": _ext.cuda_available() and name in _CUDA_OPS,
    }
    if not by_extension[device]:
        _library.impl(name, function, device)
