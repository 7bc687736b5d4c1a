"""Public covariances of the features of every class, and the Frechet distance between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencond_fast.functional import reference
from gencond_fast.functional.checks import check_count, check_features, check_samples
from gencond_fast.functional.transforms import transformed

MOST_BYTES = 4 * 2**30
_BATCH = 4096  # rows that are copied at a time


@dataclass(frozen=True, eq=False)
class ClassCovariances:
    """Means of every class and the scatter of its samples around it, in all pairs of columns.

    One class serves for a whole data set. Batches of 256 rows and 2048 columns are the size this
    is made for: BLAS does the work, and nothing is larger than the scatter and one batch.

    Attributes:
        count: [C] int64, samples of each class.
        mean: [C, D] float64; zeros for an empty class.
        scatter: [C, D, D] float64 or float32, sum over the samples of (x - mean)(x - mean)^T;
            zeros for an empty class.
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def zeros(
        cls,
        num_classes: int,
        width: int,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> ClassCovariances:
        """Covariances of no samples, to be filled by `update_`.

        Args:
            num_classes: C, at least 1.
            width: D, at least 0.
            dtype: of the scatter and the products added to it: float64, or float32, which takes
                half the time and memory and leaves a relative error of some 1e-6.
            device: PyTorch's default if None.
            most_bytes: what the scatter may take, 4 GiB if not given.

        Raises:
            TypeError: the dtype is another, or a size is no int.
            ValueError: a size is out of range, or the scatter would be larger than allowed.
        """
        name = "ClassCovariances.zeros"
        check_count(name, "num_classes", num_classes, 1)
        check_count(name, "width", width, 0)
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name}: dtype must be float32 or float64, got {dtype}.")
        size = num_classes * width * width * dtype.itemsize
        if size > most_bytes:
            raise ValueError(
                f"{name}: {num_classes} classes of {width} x {width} {dtype} take {size} bytes, "
                f"more than most_bytes = {most_bytes}: raise it, or take fewer classes or columns."
            )
        return cls(
            torch.zeros(num_classes, dtype=torch.int64, device=device),
            torch.zeros(num_classes, width, dtype=torch.float64, device=device),
            torch.zeros(num_classes, width, width, dtype=dtype, device=device),
        )

    @torch.no_grad()
    def update_(self, features: Tensor, labels: Tensor | None = None) -> ClassCovariances:
        """Merge a batch into these covariances, in place; no gradient is recorded.

        Only the classes in the batch are read or written, each by one product in the dtype of the
        scatter. Nothing changes if an argument is refused.

        Args:
            features: [N, D] float32, float16, bfloat16 or float64; N may be 0.
            labels: [N] integers in 0 ... C-1, in any order; optional if there is one class.

        Returns:
            These covariances.

        Raises:
            TypeError: an argument is of the wrong type or dtype.
            ValueError: a shape or device does not fit, or there are several classes and no labels.
            IndexError: a label is out of range.
            RuntimeError: a transform of torch.func or forward mode is at work.
        """
        labels = self.check_batch(features, labels)
        if len(features) == 0:
            return self
        # the sort brings the rows of a class together, and the host must know how many there are
        classes, index, sizes = labels.unique(return_inverse=True, return_counts=True)
        one = len(classes) == 1
        rows = (features if one else features[index.argsort(stable=True)]).double()
        index = index.new_zeros(len(rows)) if one else index.sort().values
        batch_mean = rows.new_zeros(len(classes), rows.shape[1]).index_add_(0, index, rows)
        batch_mean /= sizes.unsqueeze(1)
        deviations = (rows - batch_mean[index]).to(self.scatter.dtype)

        seen = self.count[classes]
        share = (sizes.double() / (seen + sizes)).unsqueeze(1)
        delta = batch_mean - self.mean[classes]
        # the term of Chan's update between the two means is one more row of its class
        between = (delta * (share * seen.unsqueeze(1)).sqrt()).to(self.scatter.dtype)
        # a batched product would want all classes padded to the largest, or a second scatter
        for c, own, apart in zip(
            classes.tolist(), deviations.split(sizes.tolist()), between.unsqueeze(1), strict=True
        ):
            added = torch.cat((own, apart))
            self.scatter[c].addmm_(added.T, added)
        self.mean[classes] += delta * share
        self.count[classes] += sizes
        return self

    def merge(self, other: ClassCovariances) -> ClassCovariances:
        """The covariances of both sets of samples together, by Chan's update.

        Args:
            other: covariances of other samples over the same classes and columns.

        Returns:
            ClassCovariances with a scatter in the wider dtype of the two.

        Raises:
            ValueError: the shapes differ.
        """
        if self.scatter.shape != other.scatter.shape:
            raise ValueError(
                f"merge: covariances of shape {list(self.scatter.shape)} and "
                f"{list(other.scatter.shape)} do not describe the same classes and columns."
            )
        count = self.count + other.count
        share = (other.count.double() / count.clamp(min=1)).unsqueeze(1)
        delta = other.mean - self.mean
        scatter = self.scatter + other.scatter
        between = (delta * (share * self.count.unsqueeze(1)).sqrt()).to(scatter.dtype)
        scatter += between.unsqueeze(2) * between.unsqueeze(1)
        return ClassCovariances(count, self.mean + delta * share, scatter)

    def covariance(self, correction: int = 1) -> Tensor:
        """scatter / (count - correction), [C, D, D]; 0 for a class of no more samples.

        Args:
            correction: subtracted from the count, as in `torch.cov`: 1 gives the unbiased estimate,
                0 the covariance of the population.

        Raises:
            TypeError: correction is no int.
            ValueError: correction is negative.
        """
        check_count("covariance", "correction", correction, 0)
        freedom = (self.count - correction).to(self.scatter.dtype)
        inverse = torch.where(freedom > 0, freedom.clamp(min=1).reciprocal(), 0.0)
        return self.scatter * inverse[:, None, None]

    def check_batch(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """The labels of a batch as int64, after all checks of `update_`."""
        check_features("update_", features)
        if transformed(features):
            raise RuntimeError(
                "update_: covariances record no gradient, so torch.func and forward mode would "
                "find one of 0; detach the features, or write the covariance in plain PyTorch"
            )
        classes, width = self.mean.shape
        if labels is None:
            if classes != 1:
                raise ValueError(f"update_: labels must be given, for there are {classes} classes.")
            labels = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        labels = check_samples("update_", features, labels)
        if features.shape[1] != width:
            raise ValueError(
                f"update_: features have {features.shape[1]} columns, "
                f"but these covariances {width}."
            )
        if features.device != self.mean.device:
            raise ValueError(
                f"update_: features are on {features.device}, "
                f"but these covariances on {self.mean.device}; move them to one device."
            )
        reference.check_label_range("update_", labels, classes)
        return labels


def class_covariances(
    features: Tensor,
    labels: Tensor | None = None,
    num_classes: int = 1,
    *,
    dtype: torch.dtype = torch.float64,
    most_bytes: int = MOST_BYTES,
) -> ClassCovariances:
    """Count, mean and scatter of the features of every class; of all of them without labels.

    Equivalent to `ClassCovariances.zeros(...).update_(features, labels)`, whose arguments and
    errors these are; no gradient is recorded.
    """
    check_features("class_covariances", features)
    empty = ClassCovariances.zeros(
        num_classes,
        features.shape[1],
        dtype=dtype,
        device=features.device,
        most_bytes=most_bytes,
    )
    # which says what is wrong with the labels before they are cut
    labels = empty.check_batch(features, labels)
    for rows, own in zip(features.split(_BATCH), labels.split(_BATCH), strict=True):
        empty.update_(rows, own)
    return empty


@torch.no_grad()
def frechet_distance(a: ClassCovariances, b: ClassCovariances) -> Tensor:
    """Squared Frechet distance between Gaussians with the means and covariances of each class.

        |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)),

    the squared 2-Wasserstein distance; of Inception features, this is FID.

    Args:
        a: C classes of D columns.
        b: as many.

    Returns:
        [C] float64. NaN for a class of fewer than two samples on either side, or with a value that
        is not finite. Where the distance is 0, rounding leaves some 1e-14 of the traces.

    Raises:
        ValueError: the shapes or devices differ.

    Source: Dowson and Landau (1982). The covariances are unbiased. Tr (S_a S_b)^(1/2) is the sum
    of the singular values of R_a^T R_b for any R_a R_a^T = S_a and R_b R_b^T = S_b, here from
    eigenvectors: symmetric matrices only, and no product of two covariances, whose root would
    leave half the digits to classes of fewer samples than columns.
    """
    if a.scatter.shape != b.scatter.shape:
        raise ValueError(
            f"frechet_distance: covariances of shape {list(a.scatter.shape)} and "
            f"{list(b.scatter.shape)} do not describe the same classes and columns."
        )
    if a.scatter.device != b.scatter.device:
        raise ValueError(
            f"frechet_distance: a is on {a.scatter.device} but b on {b.scatter.device}; "
            "move them to one device."
        )
    covariances = [x.covariance().double() for x in (a, b)]
    known = (a.count > 1) & (b.count > 1)
    for x, covariance in zip((a, b), covariances, strict=True):
        known &= x.mean.isfinite().all(1) & covariance.isfinite().flatten(1).all(1)
    known_matrix = known[:, None, None]
    roots = [_root(torch.where(known_matrix, s, 0.0)) for s in covariances]
    shared = torch.linalg.svdvals(roots[0].mT @ roots[1]).sum(1)
    traces = sum(root.square().flatten(1).sum(1) for root in roots)
    distance = (a.mean - b.mean).square().sum(1) + traces - 2 * shared
    return torch.where(known, distance, torch.nan)


def _root(covariance: Tensor) -> Tensor:
    """R with R R^T = covariance; rounding may have left eigenvalues below 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt().unsqueeze(1)
