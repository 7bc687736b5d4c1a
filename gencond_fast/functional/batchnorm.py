"""Public loss between batch statistics and the running statistics of a trained network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from gencond_fast.functional import ops, reference
from gencond_fast.functional.checks import (
    IMPLS,
    Impl,
    check_channel_table,
    check_channels,
    check_choice,
    takes_reference,
)

_NAME = "batchnorm_matching_loss"


def batchnorm_matching_loss(
    features: Sequence[Tensor],
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    *,
    weights: Sequence[float] | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Distance of batch statistics from the running statistics of a network, summed over layers.

    Minimising it moves the mean and the variance of every channel to the running ones.

    sum over layers l of weights[l] * (|mu_l - means[l]| + |var_l - variances[l]|), with mu_l and
    var_l the mean and the biased variance of every channel of features[l], and Euclidean norms over
    the channels, whose gradient at 0 is 0. `features` are the inputs of the batch norms of a
    trained network (a forward pre-hook on every batch norm collects them), `means` and `variances`
    are their `running_mean` and `running_var`.

    The forward and the backward pass each read every layer once. The gradient is the only tensor
    written that is as large as a layer.

    Args:
        features: for every layer [N, C, ...] of two to five dimensions, in float32, float16,
            bfloat16 or float64, contiguous or channels-last without a copy. Gradients flow back to
            them, once. A layer without elements counts nothing.
        means: for every layer [C] of any floating dtype; a constant.
        variances: for every layer [C], likewise.
        weights: for every layer a finite number; default 1. SRe2L multiplies the first by 10.
        impl: "auto" takes the C++ ops when the extension is there (built with CUDA, for CUDA
            tensors), else plain PyTorch; "reference" and "fused" insist on the one or the other.

    Returns:
        A scalar in float32 (float64 if a layer is float64). NaN in a layer gives NaN.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: there is no layer, the sequences differ in length, or a shape, a weight or impl
            is not allowed.
        InputError: impl="fused" where the C++ ops cannot run.

    Source: the recover loss of SRe2L (arXiv 2306.13092).
    """
    scale = [1.0] * len(features) if weights is None else list(weights)
    check_choice(_NAME, "impl", impl, IMPLS)
    _check_layers(features, means, variances, scale)
    if takes_reference(_NAME, impl, *features):
        return reference.batchnorm_matching_loss(features, means, variances, scale)
    layers = zip(features, means, variances, scale, strict=True)
    distances = [
        ops.batchnorm_distance(x, mean, variance) * weight for x, mean, variance, weight in layers
    ]
    return sum(distances[1:], distances[0])


def _check_layers(
    features: Sequence[Tensor],
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    weights: Sequence[float],
) -> None:
    if len(features) == 0:
        raise ValueError(f"{_NAME}: features must have one tensor or more, got none.")
    for option, given in (("means", means), ("variances", variances), ("weights", weights)):
        if len(given) != len(features):
            raise ValueError(
                f"{_NAME}: {option} must have one entry for each of the {len(features)} features, "
                f"got {len(given)}."
            )
    for i, (x, mean, variance, weight) in enumerate(
        zip(features, means, variances, weights, strict=True)
    ):
        check_channels(_NAME, f"features[{i}]", x)
        check_channel_table(_NAME, f"means[{i}]", mean, x)
        check_channel_table(_NAME, f"variances[{i}]", variance, x)
        if not isinstance(weight, float | int) or isinstance(weight, bool):
            raise TypeError(f"{_NAME}: weights[{i}] must be a number, got {type(weight).__name__}.")
        if not math.isfinite(weight):
            raise ValueError(f"{_NAME}: weights[{i}] must be finite, got {weight}.")
