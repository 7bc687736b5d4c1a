"""The losses as modules: options are given once, and the module is called on every batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gencond_fast.functional.batchnorm import batchnorm_matching_loss
from gencond_fast.functional.checks import (
    IMPLS,
    Impl,
    check_choice,
    check_count,
    check_finite,
)
from gencond_fast.functional.layout import ClassLayout
from gencond_fast.functional.losses import (
    PRECISIONS,
    ClassLosses,
    InterKind,
    IntraKind,
    Precision,
    class_losses,
    inter_class_loss,
    intra_class_loss,
    loss_options,
)
from gencond_fast.functional.matching import moment_matching_loss
from gencond_fast.functional.moments import ClassMoments
from gencond_fast.functional.reference import INTER_KINDS, INTRA_KINDS


class IntraClassLoss(nn.Module):
    """How close samples of one class lie together: minimising it *spreads* each class.

    Args:
        kind, temperature, sigma, margin, impl, precision: see `gencond_fast.intra_class_loss`.

    Raises:
        ValueError: an option is not allowed or is not one of this kind.
    """

    def __init__(
        self,
        *,
        kind: IntraKind = "infonce",
        temperature: float | None = None,
        sigma: float | None = None,
        margin: float | None = None,
        impl: Impl = "auto",
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check(name, impl, precision, kind=(kind, INTRA_KINDS))
        self.options = loss_options(
            name, (kind,), temperature=temperature, sigma=sigma, margin=margin
        )
        self.kind, self.impl, self.precision = kind, impl, precision

    def forward(self, features: Tensor, labels: Tensor | ClassLayout) -> Tensor:
        """The loss of features [N, D] with labels [N], a scalar."""
        return intra_class_loss(
            features,
            labels,
            kind=self.kind,
            impl=self.impl,
            precision=self.precision,
            **self.options,
        )

    def extra_repr(self) -> str:
        """The options, for `print`."""
        return _shown(kind=self.kind, **self.options)


class InterClassLoss(nn.Module):
    """How close the class centres lie together: minimising it moves them apart.

    Args:
        kind, temperature, margin, impl, precision: see `gencond_fast.inter_class_loss`.

    Raises:
        ValueError: an option is not allowed or is not one of this kind.
    """

    def __init__(
        self,
        *,
        kind: InterKind = "hinge",
        temperature: float | None = None,
        margin: float | None = None,
        impl: Impl = "auto",
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check(name, impl, precision, kind=(kind, INTER_KINDS))
        self.options = loss_options(name, (kind,), temperature=temperature, margin=margin)
        self.kind, self.impl, self.precision = kind, impl, precision

    def forward(self, features: Tensor, labels: Tensor | ClassLayout) -> Tensor:
        """The loss of features [N, D] with labels [N], a scalar."""
        return inter_class_loss(
            features,
            labels,
            kind=self.kind,
            impl=self.impl,
            precision=self.precision,
            **self.options,
        )

    def extra_repr(self) -> str:
        """The options, for `print`."""
        return _shown(kind=self.kind, **self.options)


class IntraInterClassLoss(nn.Module):
    """Both losses of one batch, from one computation of the class centres.

    Minimising `intra` spreads each class, minimising `inter` moves the class centres apart.

    Args:
        intra_kind, inter_kind, temperature, sigma, margin, impl, precision: see
            `gencond_fast.class_losses`.

    Raises:
        ValueError: an option is not allowed or is one of neither kind.
    """

    def __init__(
        self,
        *,
        intra_kind: IntraKind = "infonce",
        inter_kind: InterKind = "hinge",
        temperature: float | None = None,
        sigma: float | None = None,
        margin: float | None = None,
        impl: Impl = "auto",
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        name, kinds = type(self).__name__, (intra_kind, inter_kind)
        _check(
            name,
            impl,
            precision,
            intra_kind=(intra_kind, INTRA_KINDS),
            inter_kind=(inter_kind, INTER_KINDS),
        )
        self.options = loss_options(
            name, kinds, temperature=temperature, sigma=sigma, margin=margin
        )
        self.intra_kind, self.inter_kind = intra_kind, inter_kind
        self.impl, self.precision = impl, precision

    def forward(self, features: Tensor, labels: Tensor | ClassLayout) -> ClassLosses:
        """ClassLosses(intra, inter) of features [N, D] with labels [N], two scalars."""
        return class_losses(
            features,
            labels,
            intra_kind=self.intra_kind,
            inter_kind=self.inter_kind,
            impl=self.impl,
            precision=self.precision,
            **self.options,
        )

    def extra_repr(self) -> str:
        """The options, for `print`."""
        return _shown(intra_kind=self.intra_kind, inter_kind=self.inter_kind, **self.options)


class MomentMatchingLoss(nn.Module):
    """Squared distance of the classes' means and standard deviations from a target's.

    Minimising it moves every class to where the target has it, and spreads it as widely.

    Args:
        mean_weight, std_weight, stored, impl: see `gencond_fast.moment_matching_loss`.

    Raises:
        TypeError: stored is no int.
        ValueError: an option is not allowed.
    """

    def __init__(
        self,
        *,
        mean_weight: float = 1.0,
        std_weight: float = 1.0,
        stored: int | None = None,
        impl: Impl = "auto",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_choice(name, "impl", impl, IMPLS)
        check_finite(name, "mean_weight", mean_weight)
        check_finite(name, "std_weight", std_weight)
        if stored is not None:
            check_count(name, "stored", stored, 1)
        self.mean_weight, self.std_weight = mean_weight, std_weight
        self.stored, self.impl = stored, impl

    def forward(self, features: Tensor, labels: Tensor, target: ClassMoments) -> Tensor:
        """The distance of features [N, D] with labels [N] from the target, a scalar."""
        return moment_matching_loss(
            features,
            labels,
            target,
            mean_weight=self.mean_weight,
            std_weight=self.std_weight,
            stored=self.stored,
            impl=self.impl,
        )

    def extra_repr(self) -> str:
        """The options, for `print`."""
        return _shown(mean_weight=self.mean_weight, std_weight=self.std_weight, stored=self.stored)


class BatchNormMatchingLoss(nn.Module):
    """Distance of batch statistics from the running statistics of a network, summed over layers.

    Minimising it moves the mean and the variance of every channel to the running ones.

    Args:
        weights, impl: see `gencond_fast.batchnorm_matching_loss`.

    Raises:
        ValueError: impl is not allowed.
    """

    def __init__(self, *, weights: Sequence[float] | None = None, impl: Impl = "auto") -> None:
        super().__init__()
        check_choice(type(self).__name__, "impl", impl, IMPLS)
        self.weights = None if weights is None else tuple(weights)
        self.impl = impl

    def forward(
        self, features: Sequence[Tensor], means: Sequence[Tensor], variances: Sequence[Tensor]
    ) -> Tensor:
        """The distance of the layers' features [N, C, ...] from means and variances [C]."""
        return batchnorm_matching_loss(
            features, means, variances, weights=self.weights, impl=self.impl
        )

    def extra_repr(self) -> str:
        """The options, for `print`."""
        return _shown(weights=self.weights)


def _check(name: str, impl: str, precision: str, **kinds: tuple[str, tuple[str, ...]]) -> None:
    check_choice(name, "impl", impl, IMPLS)
    check_choice(name, "precision", precision, PRECISIONS)
    for option, (value, allowed) in kinds.items():
        check_choice(name, option, value, allowed)


def _shown(**options: object) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
