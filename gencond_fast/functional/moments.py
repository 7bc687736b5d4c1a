"""Public moments of the features of every class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencond_fast.functional import ops, reference
from gencond_fast.functional.checks import (
    IMPLS,
    Impl,
    check_choice,
    check_count,
    check_samples,
    takes_reference,
)
from gencond_fast.functional.moment_formulas import merge_moments


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

    @classmethod
    def zeros(
        cls,
        num_classes: int,
        width: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> ClassMoments:
        """Moments of no samples, to be filled by `update_`.

        Args:
            num_classes: C, at least 1.
            width: D, at least 0.
            dtype: float32, or float64, in which thousands of updates lose no digits.
            device: PyTorch's default if None.

        Raises:
            TypeError: the dtype is another, or a size is no int.
            ValueError: a size is out of range.
        """
        check_count("ClassMoments.zeros", "num_classes", num_classes, 1)
        check_count("ClassMoments.zeros", "width", width, 0)
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"ClassMoments.zeros: dtype must be float32 or float64, got {dtype}.")
        count = torch.zeros(num_classes, dtype=torch.int64, device=device)
        mean = torch.zeros(num_classes, width, dtype=dtype, device=device)
        return cls(count, mean, torch.zeros_like(mean))

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """count, mean and m2, in this order."""
        return self.count, self.mean, self.m2

    def update_(self, features: Tensor, labels: Tensor) -> ClassMoments:
        """Merge a batch into these moments, in place.

        Only the rows of the classes in the batch are read or written, so a small batch costs
        little however large the tables are. The merge is Chan's update in float64, so the result
        does not depend on how the samples were cut into batches beyond the rounding of the tables
        after each of them. Nothing changes if an argument is refused. No gradient is recorded: as
        the running statistics of PyTorch's batch norm, the tables take the values of the features.

        Args:
            features: [N, D] float32, float16, bfloat16 or float64, whatever the tables are; N may
                be 0.
            labels: [N] integers in 0 ... C-1, in any order.

        Returns:
            These moments.

        Raises:
            TypeError: an argument is of the wrong type or dtype.
            ValueError: a shape or device does not fit, or the tables are not contiguous or are
                part of a graph.
            IndexError: a label is out of range; the CUDA op ends in a device-side assertion
                instead.
        """
        labels = check_samples("update_", features, labels)
        if features.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"update_: features have {features.shape[1]} columns, "
                f"but these moments {self.mean.shape[1]}."
            )
        if features.device != self.mean.device:
            raise ValueError(
                f"update_: features are on {features.device}, "
                f"but these moments on {self.mean.device}; move them to one device."
            )
        for name, table in zip(("count", "mean", "m2"), self.tables, strict=True):
            if table.requires_grad:
                raise ValueError(
                    f"update_: {name} requires grad and cannot change in place; detach it first."
                )
            if not table.is_contiguous():
                raise ValueError(
                    f"update_: {name} must be contiguous, got strides {table.stride()}."
                )
        ops.class_moments_update_(*self.tables, features.detach(), labels)
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
        count, mean, m2 = merge_moments(self.tables, other.tables)
        dtype = torch.promote_types(self.mean.dtype, other.mean.dtype)
        return ClassMoments(count, mean.to(dtype), m2.to(dtype))

    def variance(self, correction: int = 0) -> Tensor:
        """m2 / (count - correction), [C, D]; 0 for a class of `correction` samples or fewer.

        Args:
            correction: subtracted from the count, as in `torch.var`: 0 gives the variance of the
                population, 1 the unbiased estimate.

        Raises:
            ValueError: correction is negative.
        """
        if correction < 0:
            raise ValueError(f"variance: correction must be 0 or more, got {correction}.")
        freedom = (self.count - correction).to(self.m2.dtype)
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
        labels: [N] integers in 0 ... num_classes - 1, in any order.
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
    labels = check_samples("class_moments", features, labels)
    check_choice("class_moments", "impl", impl, IMPLS)
    check_count("class_moments", "num_classes", num_classes, 1)
    if takes_reference("class_moments", impl, features, labels):
        return ClassMoments(*reference.class_moments(features, labels, num_classes))
    return ClassMoments(*ops.class_moments(features, labels, num_classes))
