"""What is computed from class moments alone: two sets merged, and the distance between two sets.

Moments travel as a table of counts [C], of means [C, D] and of m2 [C, D] (sums of squared
deviations from the mean). The ops, the public functions and the discrepancies share these formulas.
"""

from __future__ import annotations

import torch
from torch import Tensor


def merge_moments(
    seen: tuple[Tensor, Tensor, Tensor], found: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and m2 of both sets of samples, by Chan's update in float64."""
    count = seen[0] + found[0]
    share = (found[0].double() / count.clamp(min=1)).unsqueeze(1)  # [C, 1]
    delta = found[1].double() - seen[1].double()
    mean = seen[1].double() + delta * share
    # in this order, so that no square overflows where there is nothing to merge with
    between = delta * (share * seen[0].unsqueeze(1)) * delta
    return count, mean, seen[2].double() + found[2].double() + between


def moment_distance(
    moments: tuple[Tensor, Tensor, Tensor],
    target: tuple[Tensor, Tensor, Tensor],
    *,
    mean_weight: float,
    std_weight: float,
    stored: int | None,
) -> Tensor:
    """The loss of `moment_matching_loss` from the moments of both sides, [] in their dtype."""
    count, mean, m2 = moments
    target = (target[0], target[1].to(mean.dtype), target[2].to(mean.dtype))
    check_stored(count, stored)
    compared = (count > 0) & (target[0] > 0)
    # what is not compared is left out before anything is computed with it: the gradient of a
    # branch not taken is 0 times whatever came of it
    distance = torch.where(compared.unsqueeze(1), mean - target[1], 0.0).square().sum(1)
    if stored is not None:
        drawn = torch.where((compared & (count > 1)).unsqueeze(1), m2, 0.0)
        distance = distance - drawn.sum(1) * draw_share(count, stored).to(m2.dtype)
    loss = mean_weight * distance.sum()
    if std_weight == 0:
        return loss
    spread = ((count > 1) & (target[0] > 1)).unsqueeze(1)
    gap = deviation(torch.where(spread, m2, 0.0), count) - deviation(
        torch.where(spread, target[2], 0.0), target[0]
    )
    return loss + std_weight * gap.square().sum()


def draw_share(count: Tensor, stored: int) -> Tensor:
    """[C] float64: what of a class's summed m2 is the variance of the mean of a draw.

    A mean of n of N samples, drawn without replacement, has the variance (1 - n/N) s^2/n with the
    sample variance s^2 = m2 / (n - 1) (Cochran, Sampling Techniques, theorem 2.2).
    """
    return (1 - count.double() / stored) / (count * (count - 1)).clamp(min=1)


def deviation(m2: Tensor, count: Tensor) -> Tensor:
    """[C, D] standard deviations, unbiased in their squares, with gradient 0 at 0."""
    variance = m2 / (count - 1).clamp(min=1).unsqueeze(1)
    zero = variance == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, variance).sqrt())


def check_stored(count: Tensor, stored: int | None) -> None:
    """Raise ValueError if a class has more samples than are stored of it."""
    if stored is None or torch.compiler.is_compiling():
        return
    if count.is_cuda:
        torch._assert_async(
            (count <= stored).all(), "moment_matching_loss: a class has more samples than stored"
        )
    elif bool((count > stored).any()):
        most = int(count.argmax())
        raise ValueError(
            f"moment_matching_loss: class {most} has {int(count[most])} samples, "
            f"more than stored = {stored}."
        )
