"""Public moments of the channels of an activation, as batch normalisation takes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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


@dataclass(frozen=True, eq=False)
class ChannelMoments:
    """First and second moments of every channel.

    Attributes:
        count: elements of a channel, N times the positions.
        mean: [C] float32 or float64; zeros if there are no elements.
        m2: [C], the sum of squared deviations from the mean; zeros if there are no elements.
    """

    count: int
    mean: Tensor
    m2: Tensor

    def variance(self, correction: int = 0) -> Tensor:
        """m2 / (count - correction), [C]; zeros for `correction` elements or fewer.

        Args:
            correction: subtracted from the count, as in `torch.var`: 0 gives the variance of the
                population, 1 the unbiased estimate.

        Raises:
            ValueError: correction is negative.
        """
        if correction < 0:
            raise ValueError(f"variance: correction must be 0 or more, got {correction}.")
        if self.count <= correction:
            return torch.zeros_like(self.m2)
        return self.m2 / (self.count - correction)


def channel_moments(
    x: Tensor,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    momentum: float = 0.1,
    impl: Impl = "auto",
) -> ChannelMoments:
    """Mean and sum of squared deviations of every channel, in one pass over the memory.

    The same bits come out whatever the number of threads. Equivalent to
    `dims = [0, *range(2, x.dim())]; var, mean = torch.var_mean(x, dims, correction=0)` and
    `m2 = var * x.numel() / C`.

    Args:
        x: [N, C], [N, C, L], [N, C, H, W] or [N, C, D, H, W] in float32, float16, bfloat16 or
            float64. Contiguous and channels-last memory is read where it lies, other memory is
            copied first. Gradients of mean and m2 flow back to it, once.
        running_mean: [C] of any floating dtype, updated in place as `torch.nn.BatchNorm2d` does
            while training: (1 - momentum) * running_mean + momentum * mean.
        running_var: [C], updated likewise with the unbiased variance.
        momentum: the weight of this batch, in 0 ... 1.
        impl: "auto" takes the C++ op when the extension is there (built with CUDA, for CUDA
            tensors), else plain PyTorch; "reference" and "fused" insist on the one or the other.

    Returns:
        ChannelMoments(count, mean [C], m2 [C]), the moments in float32 (float64 for float64 x).
        Without elements the moments are zeros; a NaN reaches its own channel only.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape does not fit, momentum or impl is not allowed, or running statistics
            are to be updated by fewer than two elements a channel.
        InputError: impl="fused" where the C++ op cannot run.

    Source: the pairwise update of Chan, Golub and LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances" (1979); the running statistics are those of Ioffe and
    Szegedy (arXiv 1502.03167) with PyTorch's momentum.
    """
    name = "channel_moments"
    check_channels(name, "x", x)
    check_choice(name, "impl", impl, IMPLS)
    running = {"running_mean": running_mean, "running_var": running_var}
    count = x.shape[0] * x.shape[2:].numel()
    for option, table in running.items():
        if table is not None:
            check_channel_table(name, option, table, x)
    if running_mean is not None or running_var is not None:
        _check_update(momentum, count)
    mean, m2 = (reference if takes_reference(name, impl, x) else ops).channel_moments(x)
    moments = ChannelMoments(count, mean, m2)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_(moments.variance(1).to(running_var.dtype), momentum)
    return moments


def _check_update(momentum: float, count: int) -> None:
    if not isinstance(momentum, float | int) or isinstance(momentum, bool):
        raise TypeError(
            f"channel_moments: momentum must be a number, got {type(momentum).__name__}."
        )
    if not 0 <= momentum <= 1:
        raise ValueError(f"channel_moments: momentum must lie in 0 ... 1, got {momentum}.")
    if count < 2:
        raise ValueError(
            "channel_moments: running statistics need two or more elements a channel, as in "
            f"training a batch norm, got {count}; pass a larger batch or no running statistics."
        )
