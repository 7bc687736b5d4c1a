"""Options of differential privacy, and what cannot go together with them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from gencond_fast.config.parts import (
    LabelConfig,
    LossConfig,
    NetworkConfig,
    StoreConfig,
    TrainingConfig,
    TrajectoryConfig,
)
from gencond_fast.config.types import STRICT, OnBadImage, PositiveFloat


@dataclass(frozen=True, config=STRICT)
class PrivacyConfig:
    """Differential privacy of the file; see docs/guides/privacy.md.

    Attributes:
        epsilon: epsilon of (epsilon, delta)-differential privacy; null gives no guarantee.
        delta: delta of the guarantee; far below 1 over the number of training images.
        clip: largest norm of what one image adds to one table, in units of the root mean square
            norm that images of random noise have there.
    """

    epsilon: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    clip: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        if (self.epsilon is None) != (self.delta is None):
            raise ValueError("epsilon and delta go together: give both --dp-epsilon and --dp-delta")

    @property
    def on(self) -> bool:
        """Whether a guarantee is asked for."""
        return self.epsilon is not None


# over preset and method, under what the user says, where a guarantee is asked for
PRIVATE: dict[str, Any] = {
    "networks": {
        **{"width": 32, "random": 4, "trained": 0, "interpolated": 0},
        **{"num_augmentations": 1, "real_per_class": None, "real_batch": None},
    },
    "losses": {"cross_entropy": 0.0},
}


def check_private(
    *,
    networks: NetworkConfig,
    losses: LossConfig,
    training: TrainingConfig,
    trajectory: TrajectoryConfig,
    store: StoreConfig,
    labels: LabelConfig,
    on_bad_image: OnBadImage,
) -> None:
    """Raises ValueError if an option lets the file learn of real images past the noised table."""
    start = training.init
    others = [name for name, weight in losses.discrepancies.items() if weight]
    others = [name for name in others if name != "mean"]
    refused = {
        "networks.trained": (networks.trained, "set networks.trained=0"),
        "networks.interpolated": (networks.interpolated, "set networks.interpolated=0"),
        "networks.model": (
            ":" in networks.model and networks.model,
            "set networks.model=convnet3 or another of the models of gencond-fast, whose weights "
            "are random",
        ),
        "networks.mixture": (
            ", ".join(networks.mixture),
            "leave it out: the table is of one architecture",
        ),
        "networks.real_batch": (networks.real_batch, "set networks.real_batch=null"),
        "losses.discrepancies": (others and ", ".join(others), "use --discrepancy mean alone"),
        "losses.adversarial": (losses.adversarial, "set losses.adversarial=0"),
        "training.init": (
            start in ("real", "class_mean") and start,
            "leave it out, and samples start as random noise",
        ),
        "training.selection": (
            training.selection != "random" and training.selection,
            "leave it out",
        ),
        "trajectory.steps": (trajectory.steps, "set trajectory.steps=0"),
        "store.soft_labels": (store.soft_labels, "set store.soft_labels=0"),
        "labels.labeller": (labels.labeller, "leave it out"),
        "on_bad_image": (
            on_bad_image == "skip" and "skip",
            "replace the images that cannot be decoded, and leave it out",
        ),
    }
    for name, (value, way_out) in refused.items():
        if value:
            raise ValueError(
                f"{name} is {value}, which needs real images beyond the noised table that "
                f"privacy.epsilon allows: {way_out}"
            )
