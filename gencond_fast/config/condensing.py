"""All options of a condensation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from gencond_fast.config.parts import (
    LabelConfig,
    LossConfig,
    NetworkConfig,
    StoreConfig,
    TeacherConfig,
    TrainingConfig,
    TrajectoryConfig,
)
from gencond_fast.config.privacy import PrivacyConfig, check_private
from gencond_fast.config.running import RunOptions
from gencond_fast.config.types import STRICT, Count, Fraction, PathText, Positive


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Config(RunOptions):
    """One condensation; see also `RunOptions`.

    Attributes:
        out: run directory.
        val_fraction: share of each class of the training split to hold out; `evaluate` then tests
            on these images instead of the data's own test split.
        classes: names of the classes to condense, two or more; null takes all of them.
        image_size: side in pixels; null keeps the data's own side up to 64.
        ipc: budget as float32 images per class (IPC); 10 where `bytes` is not given either.
        bytes: budget as bytes of the file; excludes `ipc`.
        seed: seed of everything random.
    """

    out: PathText
    val_fraction: Fraction | None = None
    classes: tuple[str, ...] | None = None
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    ipc: Positive | None = None
    bytes: Positive | None = None
    seed: Count = 0
    store: StoreConfig = StoreConfig()
    networks: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()
    labels: LabelConfig = LabelConfig()
    teachers: TeacherConfig = TeacherConfig()
    privacy: PrivacyConfig = PrivacyConfig()

    def __post_init__(self) -> None:
        if self.ipc is not None and self.bytes is not None:
            raise ValueError("give the budget as ipc or as bytes, not both")
        if self.privacy.on:
            check_private(
                networks=self.networks,
                losses=self.losses,
                training=self.training,
                trajectory=self.trajectory,
                store=self.store,
                labels=self.labels,
                on_bad_image=self.on_bad_image,
            )
        if self.networks.random + self.networks.trained == 0:
            raise ValueError(
                "networks.random and networks.trained are both 0: set one to 1 or more"
            )
        if self.networks.interpolated and not self.networks.trained:
            raise ValueError(
                "networks.interpolated is above 0 and networks.trained is 0: there are no trained "
                "weights to interpolate to, so set networks.trained to 1 or more"
            )
        if (self.training.init, self.store.format) == ("noise", "dct"):
            raise ValueError(
                "training.init is noise, but dct starts from real images, which set the scale of "
                "its frequencies: leave it out, or set store.format=pixels"
            )
        if self.training.init == "class_mean" and self.training.selection != "random":
            raise ValueError(
                f"training.selection={self.training.selection} chooses real images, and "
                "training.init=class_mean starts from none: leave one of them out"
            )
        if self.training.coding_steps is not None and not self.codes_images:
            raise ValueError(
                "training.coding_steps is for the codes of a generator that starts from real "
                "images: leave it out, or set store.format=generator"
            )
        if self.training.steps == 0 and (self.privacy.on or not self.starts_as_images):
            raise ValueError(
                "training.steps is 0, and samples that do not start as real images would stay "
                "noise: set training.steps to 1 or more, or leave it out"
            )
        losses, all_trained = self.losses, self.networks.random == 0
        weighed = any(losses.discrepancies.values()) or losses.alone
        weighed = weighed or bool(all_trained and losses.cross_entropy)
        if not weighed and self.warm_share < 1 and self.training.steps != 0:
            raise ValueError(
                "losses leaves nothing to minimise (cross_entropy is for trained networks only): "
                "give a discrepancy, intra, inter or adversarial a weight"
            )
        if self.store.soft_labels and self.labels.source == "pool" and not self.networks.trained:
            raise ValueError(
                "labels.source is pool and networks.trained is 0, so no network gives soft labels: "
                "set labels.source=full_data, or networks.trained to 1 or more"
            )
        if self.labels.epsilon and self.labels.source == "full_data":
            raise ValueError(
                f"labels.epsilon is {self.labels.epsilon:g}, and the networks of "
                "labels.source=full_data have no adversarial training: set labels.source=pool, or "
                "labels.epsilon=0"
            )
        if self.ipc is None and self.bytes is None:
            object.__setattr__(self, "ipc", 10)

    @property
    def starts_as_images(self) -> bool:
        """Whether stored samples start as images, real ones or drawn ones."""
        return self.training.init != "noise"

    @property
    def codes_images(self) -> bool:
        """Whether codes of a generator are fitted to the images that samples start as."""
        return self.store.format == "generator" and self.starts_as_images and not self.privacy.on

    @property
    def warm_share(self) -> float:
        """The share of the steps that come before the matching."""
        share = self.training.warm_start
        if share is None:
            return 0.0 if self.starts_as_images else 0.5
        return share
