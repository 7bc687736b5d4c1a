"""The public losses and statistics over features of labelled samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gencond_fast import _ext, ops, reference
from gencond_fast.errors import InputError

Impl = Literal["auto", "reference", "fused"]
IntraKind = Literal["infonce", "rbf", "hinge", "nearest"]
InterKind = Literal["hinge", "infonce"]

_IMPLS = ("auto", "reference", "fused")
_FEATURE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """First and second moments of every class.

    Attributes:
        count: [C] int64, samples of each class.
        mean: [C, D] float32 or float64; zeros for an empty class.
        m2: [C, D], the sum of squared deviations from the mean; zeros for an empty class.
    """

    count: Tensor
    mean: Tensor
    m2: Tensor

    def merge(self, other: ClassMoments) -> ClassMoments:
        """The moments of both sets of samples together, by Chan's update carried out in float64.

        Args:
            other: moments of other samples over the same classes and columns.

        Returns:
            ClassMoments in the wider dtype of the two.

        Raises:
            ValueError: the shapes differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"merge: moments of shape {list(self.mean.shape)} and {list(other.mean.shape)} "
                "do not describe the same classes and columns."
            )
        count = self.count + other.count
        share = (other.count.double() / count.clamp(min=1)).unsqueeze(1)  # [C, 1]
        delta = other.mean.double() - self.mean.double()
        mean = self.mean.double() + delta * share
        between = delta.square() * (share * self.count.unsqueeze(1))
        m2 = self.m2.double() + other.m2.double() + between
        dtype = torch.promote_types(self.mean.dtype, other.mean.dtype)
        return ClassMoments(count, mean.to(dtype), m2.to(dtype))

    def variance(self, ddof: int = 0) -> Tensor:
        """m2 / (count - ddof), [C, D]; 0 for a class of ddof samples or fewer.

        Args:
            ddof: what is taken off the count: 0 for the population, 1 for the unbiased estimate.

        Raises:
            ValueError: ddof is negative.
        """
        if ddof < 0:
            raise ValueError(f"variance: ddof must be 0 or more, got {ddof}.")
        freedom = (self.count - ddof).to(self.m2.dtype)
        inverse = torch.where(freedom > 0, freedom.clamp(min=1).reciprocal(), 0.0)
        return self.m2 * inverse.unsqueeze(1)


def class_moments(
    features: Tensor, labels: Tensor, num_classes: int, *, impl: Impl = "auto"
) -> ClassMoments:
    """Count, mean and sum of squared deviations of the features of every class, in one pass.

    The same bits come out whatever the number of threads. Equivalent, for every class c, to
    `x = features[labels == c]; (len(x), x.mean(0), (x - x.mean(0)).square().sum(0))`.

    Args:
        features: [N, D] float32, float16, bfloat16 or float64; N may be 0. Gradients of mean and
            m2 flow back to it, once.
        labels: [N] int64 in 0 ... num_classes - 1, in any order.
        num_classes: C, at least 1.
        impl: "auto" takes the C++ op for CPU tensors when the extension is there, else plain
            PyTorch; "reference" and "fused" insist on the one or the other.

    Returns:
        ClassMoments(count [C] int64, mean [C, D], m2 [C, D]), the moments in float32 (float64 for
        float64 features). Empty classes have zeros; a NaN reaches its own class and column only.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape does not fit, or num_classes or impl is not allowed.
        IndexError: a label is out of range.
        InputError: impl="fused" where the C++ op cannot run.

    Source: the pairwise update of Chan, Golub and LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances" (1979).
    """
    _check_samples("class_moments", features, labels)
    _check_choice("class_moments", "impl", impl, _IMPLS)
    if not isinstance(num_classes, int | torch.SymInt) or isinstance(num_classes, bool):
        raise TypeError(
            f"class_moments: num_classes must be an int, got {type(num_classes).__name__}."
        )
    if num_classes < 1:
        raise ValueError(f"class_moments: num_classes must be 1 or more, got {num_classes}.")
    if impl == "reference":
        return ClassMoments(*reference.class_moments(features, labels, num_classes))
    if impl == "fused":
        _check_moments_fused(features)
    return ClassMoments(*ops.class_moments(features, labels, num_classes))


def intra_class_loss(
    features: Tensor,
    labels: Tensor,
    *,
    kind: IntraKind = "infonce",
    temperature: float = 0.1,
    sigma: float = 1.0,
    margin: float = 1.0,
    impl: Impl = "auto",
) -> Tensor:
    """How close samples of one class lie together; minimising it spreads each class out.

    With u_i = f_i / |f_i|, n_c the size of class c and P = sum_c n_c (n_c - 1):

    - infonce: mean over i with n_c >= 2 of log(1/(n_c - 1) sum_{j != i} exp(u_i . u_j / t)), t the
      temperature
    - rbf: 1/P sum_{i != j} exp(-|f_i - f_j|^2 / (2 sigma^2))
    - hinge: 1/P sum_{i != j} max(0, margin - |f_i - f_j|)^2
    - nearest: mean over i with n_c >= 2 of max_{j != i} u_i . u_j

    where i and j are always of one class. Nothing to compare gives 0 with zero gradient, a NaN
    anywhere gives NaN, and |0| has gradient 0 (so u of a zero feature is 0).

    Args:
        features: [N, D] float32, float16, bfloat16 or float64; N may be 0. Gradients flow back to
            it, once, in its own dtype.
        labels: [N] int64, any values in any order.
        kind: one of the four above.
        temperature: > 0, of infonce.
        sigma: > 0, of rbf.
        margin: > 0, of hinge.
        impl: "auto" or "reference"; "fused" is not part of this version.

    Returns:
        A scalar, float32 (float64 for float64 features), summed in that precision.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape does not fit, or an option is not allowed.
        InputError: impl="fused".

    Source: infonce is a reconstruction of the intra-class loss of arXiv 2309.07698; nearest is the
    diversity term of arXiv 2311.15529.
    """
    name = "intra_class_loss"
    _check_samples(name, features, labels)
    _check_choice(name, "kind", kind, reference.INTRA_KINDS)
    for option, value in (("temperature", temperature), ("sigma", sigma), ("margin", margin)):
        _check_positive(name, option, value)
    _check_loss_impl(name, impl)
    return reference.intra_class_loss(
        features, labels, kind=kind, temperature=temperature, sigma=sigma, margin=margin
    )


def inter_class_loss(
    features: Tensor,
    labels: Tensor,
    *,
    kind: InterKind = "hinge",
    temperature: float = 0.1,
    margin: float = 1.0,
    impl: Impl = "auto",
) -> Tensor:
    """How close the class centres lie together; minimising it drives classes apart.

    With m_c the mean of f over class c, C' the number of classes present and v_c = m_c / |m_c|:

    - hinge: 1/(C' (C' - 1)) sum_{c != c'} max(0, margin - |m_c - m_c'|)^2
    - infonce: mean over c of log(1/(C' - 1) sum_{c' != c} exp(v_c . v_c' / t)), t the temperature

    Fewer than two classes give 0 with zero gradient, a NaN anywhere gives NaN, and |0| has
    gradient 0.

    Args:
        features: [N, D] float32, float16, bfloat16 or float64; N may be 0. Gradients flow back to
            it, once, in its own dtype.
        labels: [N] int64, any values in any order.
        kind: one of the two above.
        temperature: > 0, of infonce.
        margin: > 0, of hinge.
        impl: "auto" or "reference"; "fused" is not part of this version.

    Returns:
        A scalar, float32 (float64 for float64 features), summed in that precision.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape does not fit, or an option is not allowed.
        InputError: impl="fused".

    Source: hinge is a reconstruction of the inter-class loss of arXiv 2309.07698.
    """
    name = "inter_class_loss"
    _check_samples(name, features, labels)
    _check_choice(name, "kind", kind, reference.INTER_KINDS)
    for option, value in (("temperature", temperature), ("margin", margin)):
        _check_positive(name, option, value)
    _check_loss_impl(name, impl)
    return reference.inter_class_loss(
        features, labels, kind=kind, temperature=temperature, margin=margin
    )


def _check_samples(name: str, features: Tensor, labels: Tensor) -> None:
    for argument, value in (("features", features), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: {argument} must be a tensor, got {type(value).__name__}.")
    if features.dtype not in _FEATURE_DTYPES:
        raise TypeError(
            f"{name}: features must be float32, float16, bfloat16 or float64, got {features.dtype}."
        )
    if labels.dtype != torch.int64:
        raise TypeError(f"{name}: labels must be int64, got {labels.dtype}.")
    if features.dim() != 2:
        raise ValueError(
            f"{name}: features must have two dimensions [N, D], got shape {list(features.shape)}."
        )
    if labels.dim() != 1 or labels.shape[0] != features.shape[0]:
        raise ValueError(
            f"{name}: labels must have shape [{features.shape[0]}], one for each row of features, "
            f"got shape {list(labels.shape)}."
        )
    if labels.device != features.device:
        raise ValueError(
            f"{name}: features are on {features.device} but labels on {labels.device}; "
            "move them to one device."
        )


def _check_choice(name: str, option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {option} must be one of {', '.join(allowed)}, got {value!r}.")


def _check_positive(name: str, option: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}: {option} must be a positive number, got {value}.")


def _check_loss_impl(name: str, impl: str) -> None:
    _check_choice(name, "impl", impl, _IMPLS)
    if impl == "fused":
        raise InputError(
            f"{name}: impl='fused' asks for kernels that are not part of this version; "
            "use impl='auto' or 'reference'."
        )


def _check_moments_fused(features: Tensor) -> None:
    if not _ext.available():
        raise InputError(f"class_moments: impl='fused' cannot run: {_ext.reason}")
    if features.device.type != "cpu":
        raise InputError(
            "class_moments: impl='fused' runs on CPU tensors in this version, "
            f"got features on {features.device}; use impl='auto'."
        )
