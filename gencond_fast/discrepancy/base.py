"""The one way in: real statistics are prepared, generated features are compared with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gencond_fast.functional.characteristic import Characteristic
from gencond_fast.functional.moments import ClassMoments
from gencond_fast.models.classifier import Classifier


@dataclass(frozen=True, eq=False)
class RealSamples:
    """A draw of real samples, for discrepancies that statistics are not enough for.

    Attributes:
        features: [M, D], class after class.
        counts: samples of each of the C classes, on the host.
        rng: on the CPU, for what a discrepancy draws in this step.
    """

    features: Tensor
    counts: tuple[int, ...]
    rng: torch.Generator


@dataclass(frozen=True, eq=False)
class RealImages:
    """A draw of real images, for discrepancies that look at them with means of their own.

    Attributes:
        images: [M, channels, S, S], normalised and augmented, class after class.
        counts: images of each of the C classes, on the host.
    """

    images: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """The network of a step, for discrepancies that ask more of it than features.

    Attributes:
        classifier: in evaluation mode, without gradients of its weights.
        outputs: [C] int64, which of its logits belong to the classes of the coming batches.
        scale: what its features were divided by.
    """

    classifier: Classifier
    outputs: Tensor
    scale: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Class scores [B, K] of features [B, D] as discrepancies get them."""
        return self.classifier.classifier(features * self.scale)


@dataclass(frozen=True, eq=False)
class Real:
    """What is known of the real classes under one network and augmentation.

    Attributes:
        moments: over the C classes of the coming batches.
        characteristic: of the same classes; None unless a discrepancy of the run needs it.
        samples: of the same classes; None unless a discrepancy of the run needs them.
        images: likewise.
        network: under which all this was measured.
    """

    moments: ClassMoments
    characteristic: Characteristic | None = None
    samples: RealSamples | None = None
    images: RealImages | None = None
    network: Network | None = None


@dataclass(frozen=True, eq=False)
class Generated:
    """One generated batch and its features.

    Attributes:
        features: [B, D].
        labels: [B] int64 in 0 ... C-1.
        moments: per-class moments of the features, with gradient.
        stored: samples stored of each class, of which the batch is a draw without replacement.
        most: no class has more samples in the batch; None where nobody counted on the host.
        images: [B, channels, S, S], normalised and augmented; None unless a discrepancy of the
            run needs images.
        normed: what went into each batch norm of the network, in its order; empty unless a
            discrepancy of the run needs it.
    """

    features: Tensor
    labels: Tensor
    moments: ClassMoments
    stored: int
    most: int | None = None
    images: Tensor | None = None
    normed: Sequence[Tensor] = ()


class Discrepancy(ABC):
    """A distance between the real and the generated features of each class, summed over classes.

    `prepare` takes what the statistics bank knows of the real classes under one network and
    augmentation; `loss` compares a generated batch of the same classes with it. Adding the
    losses of several discrepancies gives another.

    Attributes:
        needs_characteristic: whether the real side must have a characteristic function.
        needs_samples: whether it must have samples, drawn anew in every step.
        needs_images: whether it must have images, likewise.
        needs_trained: whether it counts in the steps of trained networks alone.
        needs_batchnorm: whether the networks must have batch norms.
    """

    needs_characteristic: ClassVar[bool] = False
    needs_samples: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    needs_trained: ClassVar[bool] = False
    needs_batchnorm: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, real: Real) -> None:
        """Remembers the real side of the coming batches.

        Raises:
            ValueError: it lacks something that this discrepancy needs.
        """

    @abstractmethod
    def loss(self, generated: Generated) -> Tensor:
        """The discrepancy, a scalar with gradient; 0 where there is nothing to compare."""
