"""The public loss that matches the moments of every class with a target's."""

from __future__ import annotations

from torch import Tensor

from gencond_fast.functional import ops, reference
from gencond_fast.functional.checks import (
    IMPLS,
    Impl,
    check_choice,
    check_count,
    check_finite,
    check_samples,
    takes_reference,
)
from gencond_fast.functional.moments import ClassMoments


def moment_matching_loss(
    features: Tensor,
    labels: Tensor,
    target: ClassMoments,
    *,
    mean_weight: float = 1.0,
    std_weight: float = 1.0,
    stored: int | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Squared distance of the classes' means and standard deviations from a target's.

    Minimising it moves every class to where the target has it, and spreads it as widely.

    The sum, over the classes c that have samples on both sides, of

        mean_weight (|mu_c - t_c|^2 - v_c) + std_weight |sigma_c - s_c|^2,

    mu and sigma of the features, t and s of the target, variances unbiased; a class that has one
    sample on either side has no sigma and is compared by its mean alone. With both weights 1 this
    is the squared 2-Wasserstein distance between Gaussians with diagonal covariance.

    The features read are a batch: with `stored`, the loss estimates without bias the distance of
    the means over all `stored` samples of a class, of which the n_c in the batch were drawn
    without replacement; v_c = (1 - n_c / stored) sum_j sigma_cj^2 / n_c is the part of the
    distance that comes from drawing. Without it v_c = 0.

    Features are read once and no intermediate is larger than the C x D tables. The same bits come
    out whatever the number of threads.

    Args:
        features: [N, D] float32, float16, bfloat16 or float64; N may be 0. The gradient flows back
            to it, once; that of a standard deviation is 0 where it is 0.
        labels: [N] integers in 0 ... C-1, in any order.
        target: moments over the same C classes and D columns.
        mean_weight: weight of the means, any finite number.
        std_weight: weight of the standard deviations, likewise.
        stored: samples stored of each class, None for all of them in the batch.
        impl: "auto" takes the C++ op on a CPU when the extension is there, else PyTorch;
            "reference" is plain PyTorch in float64; "fused" insists on the extension (a GPU runs
            its `class_moments`, then PyTorch).

    Returns:
        [] float32 (float64 for float64 features). A NaN in the features of a compared class
        gives NaN.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape, device or weight does not fit, the target requires grad, or a class
            has more samples than `stored`.
        IndexError: a label is out of range; CUDA ops end in a device-side assertion instead.
        InputError: impl="fused" where the C++ op cannot run.

    Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions"
    (1982); the variance of a draw is theorem 2.2 of Cochran, "Sampling Techniques".
    """
    name = "moment_matching_loss"
    labels = check_samples(name, features, labels)
    check_choice(name, "impl", impl, IMPLS)
    check_finite(name, "mean_weight", mean_weight)
    check_finite(name, "std_weight", std_weight)
    if stored is not None:
        check_count(name, "stored", stored, 1)
    _check_target(name, features, target)
    if takes_reference(name, impl, features, target.mean, target.m2):
        return reference.moment_matching_loss(
            features,
            labels,
            target.tables,
            mean_weight=mean_weight,
            std_weight=std_weight,
            stored=stored,
        )
    return ops.moment_matching(features, labels, target.tables, mean_weight, std_weight, stored)


def _check_target(name: str, features: Tensor, target: ClassMoments) -> None:
    if not isinstance(target, ClassMoments):
        raise TypeError(f"{name}: target must be ClassMoments, got {type(target).__name__}.")
    if target.mean.shape[1] != features.shape[1]:
        raise ValueError(
            f"{name}: features have {features.shape[1]} columns, but target {target.mean.shape[1]}."
        )
    if target.mean.device != features.device:
        raise ValueError(
            f"{name}: features are on {features.device} but target on {target.mean.device}; "
            "move them to one device."
        )
    if target.mean.requires_grad or target.m2.requires_grad:
        raise ValueError(
            f"{name}: target requires grad, but gradients flow to features alone; detach it."
        )
