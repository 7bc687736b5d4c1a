"""Public moments of the features of every class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencond_fast import _ext, ops, reference
from gencond_fast.checks import IMPLS, Impl, check_choice, check_samples
from gencond_fast.errors import InputError


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

    # MERGE: take the other branch's zeros and update_; these two are a stand-in with the same face
    @classmethod
    def zeros(
        cls,
        num_classes: int,
        width: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> ClassMoments:
        """Moments of no samples, to be filled by `update_`."""
        count = torch.zeros(num_classes, dtype=torch.int64, device=device)
        mean = torch.zeros(num_classes, width, dtype=dtype, device=device)
        return cls(count, mean, torch.zeros_like(mean))

    def update_(self, features: Tensor, labels: Tensor) -> ClassMoments:
        """Adds samples [B, D] of labels [B] in place; touches the classes present alone."""
        if len(labels) == 0:
            return self
        classes, place = torch.unique(labels, return_inverse=True)
        before = ClassMoments(*(getattr(self, n).index_select(0, classes) for n in vars(self)))
        after = before.merge(class_moments(features, place, len(classes)))
        for name, table in vars(self).items():
            table.index_copy_(0, classes, getattr(after, name).to(table.dtype))
        return self

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
        impl: "auto" takes the C++ op when the extension is there (built with CUDA, for CUDA
            tensors), else plain PyTorch; "reference" and "fused" insist on the one or the other.

    Returns:
        ClassMoments(count [C] int64, mean [C, D], m2 [C, D]), the moments in float32 (float64 for
        float64 features). Empty classes have zeros; a NaN reaches its own class and column only.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape does not fit, or num_classes or impl is not allowed.
        IndexError: a label is out of range; the CUDA op ends in a device-side assertion instead.
        InputError: impl="fused" where the C++ op cannot run.

    Source: the pairwise update of Chan, Golub and LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances" (1979).
    """
    check_samples("class_moments", features, labels)
    check_choice("class_moments", "impl", impl, IMPLS)
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


def _check_moments_fused(features: Tensor) -> None:
    if not _ext.available():
        raise InputError(f"class_moments: impl='fused' cannot run: {_ext.reason}")
    if features.device.type == "cuda" and not _ext.cuda_available():
        raise InputError(
            "class_moments: impl='fused' cannot run: the C++ extension was built without CUDA; "
            "install gencond_fast again with nvcc at hand, or use impl='auto'."
        )
    if features.device.type not in ("cpu", "cuda"):
        raise InputError(
            f"class_moments: impl='fused' has no kernel for features on {features.device}; "
            "use impl='auto'."
        )
