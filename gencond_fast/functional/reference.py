"""Plain PyTorch versions of every op: the definition the fast versions are tested against.

Nothing here loops over classes or samples, and nothing reads a tensor's value on the host but the
checks of labels and counts. The intra-class losses hold N x N matrices, the inter-class ones
C x C: they define the result and serve small batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gencond_fast.functional.moment_formulas import merge_moments, moment_distance
from gencond_fast.functional.transforms import transformed

INTRA_KINDS = ("infonce", "rbf", "hinge", "nearest")
INTER_KINDS = ("hinge", "infonce")
_MOST_DIFFERENCES = 2**22  # numbers of the differences of all pairs of rows, held at once


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept and results returned in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_label_range(name: str, labels: Tensor, num_classes: int) -> None:
    """Raise IndexError naming the first label outside 0 ... num_classes - 1."""
    batched = torch._C._functorch.is_batchedtensor
    if labels.numel() == 0 or torch.compiler.is_compiling() or batched(labels):
        return  # of batched labels, index_add and index_select refuse what is out of range
    outside = (labels < 0) | (labels >= num_classes)
    if bool(outside.any()):
        raise IndexError(
            f"{name}: label {int(labels[outside][0])} is out of range: "
            f"labels must lie in 0 ... {num_classes - 1} (num_classes = {num_classes})."
        )


def class_moments(
    features: Tensor, labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and sum of squared deviations of every class, computed in float64.

    Args:
        features: [N, D], any floating dtype.
        labels: [N] int64 in 0 ... num_classes - 1, in any order.
        num_classes: C.

    Returns:
        count [C] int64, mean [C, D] and m2 [C, D] in float32 (float64 for float64 features);
        an empty class has zeros. A NaN reaches its own class and column only.

    Raises:
        IndexError: a label is out of range.
    """
    check_label_range("class_moments", labels, num_classes)
    dtype = accumulation_dtype(features.dtype)
    x = features.double()
    count = labels.new_zeros(num_classes).index_add(0, labels, torch.ones_like(labels))
    n = count.clamp(min=1).unsqueeze(1)  # [C, 1]
    zeros = x.new_zeros(num_classes, x.shape[1])
    mean = zeros.index_add(0, labels, x) / n
    deviation = x - mean.index_select(0, labels)
    m2 = zeros.index_add(0, labels, deviation * deviation)
    return count, mean.to(dtype), m2.to(dtype)


def class_moments_update_(
    count: Tensor, mean: Tensor, m2: Tensor, features: Tensor, labels: Tensor
) -> None:
    """Merge the moments of a batch into the tables, in the rows of its classes alone.

    Args:
        count: [C] int64. As mean and m2, changed in place.
        mean: [C, D] float32 or float64.
        m2: [C, D], likewise.
        features: [N, D], any floating dtype.
        labels: [N] int64 in 0 ... C - 1, in any order.

    Raises:
        IndexError: a label is out of range.
    """
    check_label_range("class_moments_update_", labels, len(count))
    classes, index = labels.unique(return_inverse=True)
    tables = (count, mean, m2)
    seen = (count[classes], mean[classes], m2[classes])
    found = class_moments(features.double(), index, len(classes))
    for table, merged in zip(tables, merge_moments(seen, found), strict=True):
        table[classes] = merged.to(table.dtype)


def moment_matching_loss(
    features: Tensor,
    labels: Tensor,
    target: tuple[Tensor, Tensor, Tensor],
    *,
    mean_weight: float = 1.0,
    std_weight: float = 1.0,
    stored: int | None = None,
) -> Tensor:
    """Distance of the classes' means and deviations from the target's, computed in float64.

    See `gencond_fast.moment_matching_loss` for the formula; target is its count, mean and m2.
    """
    moments = class_moments(features.double(), labels, len(target[0]))
    loss = moment_distance(
        moments, target, mean_weight=mean_weight, std_weight=std_weight, stored=stored
    )
    return loss.to(accumulation_dtype(features.dtype))


def intra_class_loss(
    features: Tensor,
    labels: Tensor,
    *,
    kind: str = "infonce",
    temperature: float = 0.1,
    sigma: float = 1.0,
    margin: float = 1.0,
) -> Tensor:
    """How close samples of one class lie together, on the full N x N matrix of pairs.

    See `gencond_fast.intra_class_loss` for the formulas; differentiable again and again, but for
    rbf and hinge of many samples.
    """
    f = features.to(accumulation_dtype(features.dtype))
    if f.shape[0] == 0:
        return f.sum()
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    pair = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)  # [N, N]
    if kind == "rbf":
        distance = _distances(f)
        loss = _mean_where(pair, torch.exp(distance.square() / (-2 * sigma * sigma)))
    elif kind == "hinge":
        loss = _mean_where(pair, torch.relu(margin - _distances(f)).square())
    elif kind == "nearest":
        loss = _mean_row_max(_cosines(f), pair)
    else:
        loss = _mean_row_lse(_cosines(f) / temperature, pair)
    return _unless_infinite(loss, f)


def inter_class_loss(
    features: Tensor,
    labels: Tensor,
    *,
    kind: str = "hinge",
    temperature: float = 0.1,
    margin: float = 1.0,
) -> Tensor:
    """How close the class means lie together, on the full C x C matrix of present classes.

    See `gencond_fast.inter_class_loss` for the formulas; differentiable likewise.
    """
    f = features.to(accumulation_dtype(features.dtype))
    if f.shape[0] == 0:
        return f.sum()
    classes, index, count = torch.unique(labels, return_inverse=True, return_counts=True)
    total = f.new_zeros(len(classes), f.shape[1]).index_add(0, index, f)
    mean = total / count.unsqueeze(1)  # [C', D]
    pair = ~torch.eye(len(classes), dtype=torch.bool, device=labels.device)
    if kind == "hinge":
        loss = _mean_where(pair, torch.relu(margin - _distances(mean)).square())
    else:
        loss = _mean_row_lse(_cosines(mean) / temperature, pair)
    return _unless_infinite(_unless_infinite(loss, f), mean)


def _distances(x: Tensor) -> Tensor:
    """[N, N], NaN where it overflows; the gradient at distance 0 is 0."""
    # by differences, not through a Gram matrix: exact for duplicates and far from the origin
    if len(x) * x.numel() > _MOST_DIFFERENCES and not transformed(x):
        found = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    else:  # cdist has no second derivative
        square = (x.unsqueeze(1) - x.unsqueeze(0)).square().sum(2)
        zero = square == 0
        found = torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())
    return torch.where(found.isinf(), torch.nan, found)


def _cosines(x: Tensor) -> Tensor:
    square = (x * x).sum(1, keepdim=True)
    zero = square == 0
    # both branches must be finite, or the unused one would send NaN gradients back
    inverse = torch.where(zero, 0.0, torch.where(zero, 1.0, square).rsqrt())
    inverse = torch.where(square.isinf(), torch.nan, inverse)  # which would be a finite 0
    unit = x * inverse
    with torch.autocast(x.device.type, enabled=False):  # which would multiply in half precision
        return unit @ unit.T


def _mean_where(pair: Tensor, value: Tensor) -> Tensor:
    return torch.where(pair, value, 0.0).sum() / pair.sum().clamp(min=1)


def _mean_row_lse(logits: Tensor, pair: Tensor) -> Tensor:
    """Mean over rows with a partner of log(mean over partners of exp(logits))."""
    partners = pair.sum(1)
    rows = partners > 0
    # a row of nothing but -inf has a NaN gradient, so a row without a partner keeps its own entry
    shown = pair | torch.diag(~rows)
    lse = torch.logsumexp(logits.masked_fill(~shown, -torch.inf), 1)
    return _mean_where(rows, lse - partners.clamp(min=1).to(lse.dtype).log())


def _mean_row_max(value: Tensor, pair: Tensor) -> Tensor:
    rows = pair.any(1)
    return _mean_where(rows, value.masked_fill(~pair, -torch.inf).amax(1))


def _unless_infinite(loss: Tensor, x: Tensor) -> Tensor:
    # a NaN or an infinity in a sample that is compared with nothing must not go unseen
    return loss + torch.where(x.isfinite().all(), 0.0, torch.nan).to(loss.dtype)


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of every channel, computed in float64.

    Args:
        x: [N, C, ...] of two to five dimensions and any floating dtype.

    Returns:
        mean [C] and m2 [C] in float32 (float64 for float64 x), zeros if x has no elements.
    """
    dtype = accumulation_dtype(x.dtype)
    values = x.double().transpose(0, 1).flatten(1)  # [C, elements]
    mean = values.sum(1) / max(values.shape[1], 1)
    m2 = (values - mean.unsqueeze(1)).square().sum(1)
    return mean.to(dtype), m2.to(dtype)


def batchnorm_matching_loss(
    features: Sequence[Tensor],
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    weights: Sequence[float],
) -> Tensor:
    """Weighted distances of the statistics of every layer, see the public function."""
    loss = features[0].new_zeros((), dtype=accumulation_dtype(features[0].dtype))
    for x, mean, variance, weight in zip(features, means, variances, weights, strict=True):
        if x.numel() == 0:
            continue
        batch_mean, m2 = channel_moments(x.double())
        batch_variance = m2 * (x.shape[1] / x.numel())
        # the gradient of vector_norm at 0 is 0
        own = batch_mean.dtype
        to_mean = torch.linalg.vector_norm(batch_mean - mean.detach().to(own))
        to_variance = torch.linalg.vector_norm(batch_variance - variance.detach().to(own))
        # of a float32 scalar times a number, the tangent of forward mode would be float64
        loss = loss + (weight * (to_mean + to_variance)).to(accumulation_dtype(x.dtype))
    return loss
