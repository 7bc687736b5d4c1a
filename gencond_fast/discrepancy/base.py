"""The one way in: real statistics are prepared, generated features are compared with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gencond_fast.characteristic import Characteristic
from gencond_fast.moments import ClassMoments


@dataclass(frozen=True, eq=False)
class Real:
    """What is known of the real classes under one network and augmentation.

    Attributes:
        moments: over the C classes of the coming batches.
        characteristic: of the same classes; None unless a discrepancy of the run needs it.
    """

    moments: ClassMoments
    characteristic: Characteristic | None = None


@dataclass(frozen=True, eq=False)
class Generated:
    """Features of one generated batch.

    Attributes:
        features: [B, D].
        labels: [B] int64 in 0 ... C-1.
        moments: per-class moments of the features, with gradient.
        stored: samples stored of each class, of which the batch is a draw without replacement.
    """

    features: Tensor
    labels: Tensor
    moments: ClassMoments
    stored: int


class Discrepancy(ABC):
    """A distance between the real and the generated features of each class, summed over classes.

    `prepare` takes what the statistics bank knows of the real classes under one network and
    augmentation; `loss` compares a generated batch of the same classes with it. Adding the
    losses of several discrepancies gives another.

    Attributes:
        needs_characteristic: whether the real side must have a characteristic function.
    """

    needs_characteristic: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, real: Real) -> None:
        """Remembers the real side of the coming batches.

        Raises:
            ValueError: it has no characteristic function and this discrepancy needs one.
        """

    @abstractmethod
    def loss(self, generated: Generated) -> Tensor:
        """The discrepancy, a scalar with gradient; 0 where there is nothing to compare."""
