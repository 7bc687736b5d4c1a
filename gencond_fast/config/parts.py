"""Options of a condensation by what they are about, and their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from gencond_fast.config.types import (
    OPERATIONS,
    STRICT,
    Count,
    Epsilon,
    Operation,
    Positive,
    PositiveFloat,
    Small,
    Weight,
    without_repetition,
)

_OF_FORMATS = {
    "width": ("generator",),
    "code_channels": ("generator",),
    "code_size": ("generator", "pixels"),
    "sample_bytes": ("dct",),
    "coefficients": ("dct",),
    "factor": ("pixels",),
}


@dataclass(frozen=True, config=STRICT)
class StoreConfig:
    """What the file holds. Sizes left at None are chosen to fill the budget.

    Attributes:
        format: `dct` (entropy-coded frequencies), `generator` (codes and decoder) or `pixels`.
        per_class: stored samples of a class.
        width: most channels inside the decoder of `generator`.
        code_channels: channels of one code of `generator`.
        code_size: side of one code of `generator`; with `pixels`, side of one stored image.
        sample_bytes: of one coded sample of `dct` on average; decides on `per_class` where that is
            open. The larger, the fewer and the finer samples there are.
        coefficients: frequencies of a sample of `dct`, of all channels together, that can be other
            than zero.
        factor: with `pixels`, the image side over that of a stored one, in place of `code_size`:
            IDC's multi-formation (2205.14959).
        soft_labels: class probabilities kept for each stored sample, all of them at most; 0 keeps
            hard labels alone.
        label_bytes: of one coded soft label on average, in which labels are as fine as they can be;
            None keeps probabilities to 1/255, coded where that is smaller.
    """

    format: Literal["dct", "generator", "pixels"] = "dct"
    per_class: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    width: Small | None = None
    code_channels: Small | None = None
    code_size: Small | None = None
    sample_bytes: PositiveFloat | None = None
    coefficients: Positive | None = None
    factor: Small | None = None
    soft_labels: Count = 0
    label_bytes: PositiveFloat | None = None

    def __post_init__(self) -> None:
        for name, formats in _OF_FORMATS.items():
            if getattr(self, name) is not None and self.format not in formats:
                raise ValueError(f"{name} is for format={' or '.join(formats)}: leave it out")
        if self.factor is not None and self.code_size is not None:
            raise ValueError("give the side of stored images as factor or as code_size, not both")
        if self.label_bytes is not None and not self.soft_labels:
            raise ValueError("label_bytes is for soft labels: set soft_labels as well")


@dataclass(frozen=True, config=STRICT)
class NetworkConfig:
    """The feature networks and the statistics of the real data under them.

    Attributes:
        model: architecture, one of `gencond_fast.models.registry.MODEL_NAMES` or the user's own
            `module:function`.
        mixture: other architectures, which the random and the trained networks take turns at with
            `model`; experts of trajectories are of `model` alone.
        width: channels of a ConvNet.
        random: networks with random weights.
        trained: networks trained on real images, each for a different number of steps.
        interpolated: networks between the initial and the trained weights of those (2502.20653);
            those at least half-way to the trained ones classify as well.
        train_steps: steps of the longest trained one; the others are spaced down to a tenth.
        train_images: real images of a class that the training (and warm start) draws from.
        num_augmentations: augmentations in the table of each network, the first one the identity.
        augmentation: the policy: what the other augmentations do, in turn, and what the batches
            are put through that the networks are trained on.
        real_per_class: real images of a class behind the statistics; None takes them all.
        real_batch: real images of a class measured anew in every matching step, in place of the
            statistics, which then give no more than the scale; None looks the statistics up.
        sample_batch: real images of a class in every matching step, for discrepancies between
            samples (`mmd`, `sliced_wasserstein`, `gradient`, `logit`), where `real_batch` is
            None.
        frequencies: at which the characteristic function of a class is measured for `cf`.
        frequency_scale: their standard deviation, in units of one over the within-class
            standard deviation of a network's features.
    """

    model: str = "convnet3"
    mixture: Annotated[tuple[str, ...], AfterValidator(without_repetition)] = ()
    width: Positive = 128
    random: Count = 2
    trained: Count = 4
    interpolated: Count = 0
    train_steps: Positive = 600
    train_images: Positive = 1000
    num_augmentations: Positive = 7
    augmentation: Annotated[
        tuple[Operation, ...], Field(min_length=1), AfterValidator(without_repetition)
    ] = OPERATIONS
    real_per_class: Positive | None = 1000
    real_batch: Positive | None = None
    sample_batch: Positive = 64
    frequencies: Positive = 256
    frequency_scale: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        if self.model in self.mixture:
            raise ValueError(f"mixture has {self.model!r}, which is model already: leave it out")

    @property
    def models(self) -> tuple[str, ...]:
        """All architectures."""
        return (self.model, *self.mixture)


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """Weights of the objective; a weight may be negative, zero switches the term off.

    Attributes:
        discrepancies: weight of each discrepancy by name, averaged over classes.
        intra: weight of the intra-class loss.
        intra_kind: its form, see `gencond_fast.intra_class_loss`.
        inter: weight of the inter-class loss.
        inter_kind: its form, see `gencond_fast.inter_class_loss`.
        temperature: of the `infonce` forms.
        margin: of the `hinge` forms, in units of the real within-class variance.
        cross_entropy: weight of the trained networks' classification loss.
        adversarial: weight of seeming real to a network that learns alongside to tell real images
            of a class from generated ones; see `gencond_fast.condensation.discriminator`.
        adversarial_lr: learning rate of that network.
    """

    discrepancies: Mapping[str, Weight] = dataclasses.field(default_factory=lambda: {"mean": 1.0})
    intra: Weight = 0.01
    intra_kind: Literal["infonce", "rbf", "hinge", "nearest"] = "infonce"
    inter: Weight = 0.01
    inter_kind: Literal["hinge", "infonce"] = "hinge"
    temperature: PositiveFloat = 0.1
    margin: PositiveFloat = 1.0
    cross_entropy: Weight = 0.1
    adversarial: Weight = 0.0
    adversarial_lr: PositiveFloat = 5e-4

    @property
    def alone(self) -> bool:
        """Whether a term beside the discrepancies counts under every network, trained or not."""
        return any((self.intra, self.inter, self.adversarial))


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """The optimisation of the stored set.

    Attributes:
        steps: optimiser steps, warm start included.
        init: stored samples start as `real` images or as `noise`; `auto` is real where the format
            can take images over, which a generator cannot.
        selection: which real images the stored samples start from or are first fitted to: `random`
            ones, those that follow the mean of their class (`herding`), or random ones of the half
            that trained networks find `easy`; see `gencond_fast.condensation.selection`.
        warm_start: share of the steps spent fitting chosen real images; 0 leaves it out. None is
            half of them after a start from noise. After a start from real images there is nothing
            to fit, and a share that is given all the same is left out of the matching.
        warm_lr: peak learning rate of the warm start.
        match_lr: peak learning rate of the matching.
        warm_batch_size: samples in a warm-start step.
        batch_per_class: samples of a class in a matching step; None takes all that are stored.
        class_batch: classes in a matching step, one of each of so many groups that they are in at
            random from start to end; None takes all.
        micro_batch: samples of a matching step that are decoded and put through the network at
            once, for less memory: losses and gradients stay as they are, and the forward pass is
            made twice. None takes all.
        clip: largest norm of the gradient.
        ema_decay: largest decay of a moving average of the stored set's parameters, which the
            file gets in their place; 0 takes the last ones.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of `metrics.jsonl`.
    """

    steps: Positive = 4000
    init: Literal["auto", "noise", "real"] = "auto"
    selection: Literal["random", "herding", "easy"] = "random"
    warm_start: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    warm_lr: PositiveFloat = 4e-3
    match_lr: PositiveFloat = 1e-3
    warm_batch_size: Positive = 256
    batch_per_class: Positive | None = 32
    class_batch: Positive | None = None
    micro_batch: Positive | None = None
    clip: PositiveFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    checkpoint_every: Positive = 100
    log_every: Positive = 10


@dataclass(frozen=True, config=STRICT)
class TrajectoryConfig:
    """Matching of training trajectories (2203.11932) after the matching of features.

    Attributes:
        steps: optimiser steps of it, beyond `training.steps`; 0 leaves it out.
        lr: peak learning rate of the stored set.
        experts: networks, as `networks.model` and `networks.width` say, trained on the whole
            training split, whose weights are followed.
        epochs: of an expert.
        parts: of an epoch, after each of which its weights are kept.
        max_start_epoch: the first epochs, in which the weights lie that a step starts from.
        span: parts that lie between start and target.
        inner_steps: of SGD on stored samples that are to lead to the target.
        batch_size: stored samples in each of them.
        inner_lr: learning rate of expert and inner steps.
    """

    steps: Count = 0
    lr: PositiveFloat = 1e-3
    experts: Positive = 3
    epochs: Positive = 10
    parts: Positive = 4
    max_start_epoch: Positive = 6
    span: Positive = 3
    inner_steps: Positive = 12
    batch_size: Positive = 128
    inner_lr: PositiveFloat = 0.05

    def __post_init__(self) -> None:
        if self.max_start_epoch * self.parts + self.span > self.epochs * self.parts:
            raise ValueError(
                f"a start in epoch {self.max_start_epoch} and {self.span} parts of 1/{self.parts} "
                f"from there end behind the {self.epochs} epochs of an expert: make epochs larger"
            )


@dataclass(frozen=True, config=STRICT)
class LabelConfig:
    """How stored samples get soft labels, where `store.soft_labels` asks for them.

    Attributes:
        source: `pool` is the trained feature networks of the run, `full_data` networks trained on
            all training images (`TeacherConfig`).
        num_augmentations: of each sample that a teacher sees, the first one the identity.
        temperature: that logits are divided by.
        hard_label_weight: the share of the hard label in the result.
        epsilon: 0 takes the trained feature networks of the run as they are. Above 0 the same
            networks are trained once more on adversarial examples (2001.03994) and give the labels;
            a pixel of such an example may differ from that of its image by `epsilon` 255ths.
    """

    source: Literal["pool", "full_data"] = "pool"
    num_augmentations: Positive = 16
    temperature: PositiveFloat = 1.0
    hard_label_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    epsilon: Epsilon = 0.0


@dataclass(frozen=True, config=STRICT)
class TeacherConfig:
    """Networks trained on the whole training split.

    Attributes:
        model: architecture, one of `gencond_fast.models.registry.MODEL_NAMES` or the user's own
            `module:function`.
        width: channels of a ConvNet.
        count: networks, of different initial weights and orders of the images.
        epochs: passes over the training images.
    """

    model: str = "convnet3"
    width: Positive = 128
    count: Positive = 1
    epochs: Positive = 20
