"""How students are trained: every protocol, all its numbers in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Protocol:
    """How a student is trained; the defaults are those of DC 2006.05929 and DSA 2102.08259.

    Attributes:
        name: as it is printed.
        batch_size: images in a step.
        optimizer: `sgd` or `adamw`.
        lr: peak learning rate.
        momentum: of SGD.
        weight_decay: of the optimiser; AdamW's is decoupled.
        schedule: `step` divides the learning rate by ten after half of the epochs; `cosine`
            lets it rise linearly over `warm_up`, then fall along half a cosine to zero, step by
            step; `constant` stays.
        warm_up: share of all steps, of `cosine`.
        augmentation: DSA operations, one a batch, parameters for each image; none leave it as
            it is.
        cutmix: probability that a batch is mixed, one box for all its images (1905.04899).
        ema_decay: decay of the moving average of the weights that is tested; None tests the weights
            themselves. After t steps it is min(ema_decay, (1 + t) / (10 + t)).
        soft: whether condensed images are learned by the labels stored with them, as probabilities
            (KL divergence); baselines have hard labels.
    """

    name: str = "dc"
    batch_size: int = 256
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["step", "cosine", "constant"] = "step"
    warm_up: float = 0.0
    augmentation: tuple[str, ...] = ("color", "crop", "cutout", "flip", "scale", "rotate")
    cutmix: float = 0.0
    ema_decay: float | None = None
    soft: bool = False

    def cache_parts(self) -> dict[str, Any]:
        """All numbers for a cache key, under the names that these keys have always had."""
        parts = asdict(self)
        return parts | {"rate": parts.pop("lr"), "average": parts.pop("ema_decay")}

    def without_augmentation(self) -> Protocol:
        """The same on images as they are: no DSA and no CutMix."""
        return replace(self, augmentation=(), cutmix=0.0)


DC = Protocol()
MODERN = Protocol(
    name="modern",
    optimizer="adamw",
    lr=1e-3,
    momentum=0.0,
    weight_decay=0.05,
    schedule="cosine",
    warm_up=0.05,
    cutmix=0.5,
    ema_decay=0.99,
)
SOFT = replace(MODERN, name="soft", soft=True)
PROTOCOLS = {protocol.name: protocol for protocol in (DC, MODERN, SOFT)}
