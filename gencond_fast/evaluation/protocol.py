"""The evaluation protocol of the condensation literature, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How a student is trained (DC 2006.05929 and DSA 2102.08259, evaluation).

    Attributes:
        name: as it is printed.
        batch_size: images in a step.
        rate: learning rate of SGD, divided by ten after half of the epochs.
        momentum: of SGD.
        weight_decay: of SGD.
        augmentation: DSA operations, one a batch, parameters for each image.
    """

    name: str = "dc"
    batch_size: int = 256
    rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: tuple[str, ...] = ("color", "crop", "cutout", "flip", "scale", "rotate")


DC = Protocol()
