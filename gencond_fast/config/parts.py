"""Options of a condensation by subject, with their defaults."""

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
    StoreFormat,
    Weight,
    without_repetition,
)

_OF_FORMATS = {
    "width": ("generator",),
    "code_size": ("pixels",),
    "sample_bytes": ("dct", "generator"),
    "coefficients": ("dct", "generator"),
    "factor": ("pixels",),
}


@dataclass(frozen=True, config=STRICT)
class StoreConfig:
    """What the file holds.

    Attributes:
        format: how samples are stored. `generator`: codes, and networks that all classes share;
            `dct`: entropy-coded frequencies alone; `pixels`: the pixels themselves.
        per_class: stored samples per class; null takes as many as fill the budget.
        width: channels of the synthesis network (`generator`); null takes a small share of the
            budget.
        code_size: side of a stored image (`pixels`); null fills the budget.
        sample_bytes: average bytes of a coded sample (`dct`, `generator`); sets `per_class` where
            that is null. Larger values give fewer and finer samples.
        coefficients: most frequencies of a sample (`dct`), or of a block (`generator`), that may
            differ from zero, over all channels; null chooses.
        factor: image side divided by the side of a stored image (`pixels`), as in the
            multi-formation of IDC (2205.14959); excludes `code_size`.
        soft_labels: largest class probabilities to store with each sample; 0 stores hard labels.
        label_bytes: average bytes of a coded soft label; null stores probabilities to 1/255.
    """

    format: StoreFormat = "dct"
    per_class: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    width: Small | None = None
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
    """The feature networks, and the statistics of the real images in their features.

    Attributes:
        model: architecture: one of `gencond_fast.models.registry.MODEL_NAMES`, or your own as
            `module:function`.
        mixture: further architectures, which take turns with `model`. Trajectory matching uses
            `model` alone.
        width: channels of a ConvNet.
        random: number of networks with random weights.
        trained: number of networks trained on real images, each for a different number of steps.
        interpolated: number of networks whose weights lie between the initial and the trained
            weights of a trained network (2502.20653). From half-way on they count as trained.
        train_steps: training steps of the longest trained network; the shortest gets a tenth.
        train_images: real images per class to train the networks on, and to start samples from.
        num_augmentations: augmentations under which each network measures the real images; the
            first is the identity.
        augmentation: operations that the augmentations take in turn, also used to train the
            networks.
        real_per_class: real images per class behind the statistics; null takes all of them.
        real_batch: real images per class to pass through the network in every matching step,
            instead of using the stored statistics; null uses the statistics.
        sample_batch: real images per class in every matching step, for discrepancies that compare
            samples (`mmd`, `sliced_wasserstein`, `gradient`, `logit`), where `real_batch` is null.
        frequencies: number of random frequencies of the characteristic function (`cf`).
        frequency_scale: standard deviation of these frequencies, in units of 1 over the
            within-class standard deviation of the features.
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
    """Weights of the loss; 0 switches a term off, and a negative weight reverses it.

    Attributes:
        discrepancies: weight of each discrepancy between real and stored images, by name.
        intra: weight of the intra-class loss, which spreads the samples of a class.
        intra_kind: form of the intra-class loss; see `gencond_fast.intra_class_loss`. The sigma of
            `rbf` is 1, in units of the real within-class standard deviation.
        inter: weight of the inter-class loss, which keeps classes apart.
        inter_kind: form of the inter-class loss; see `gencond_fast.inter_class_loss`.
        temperature: temperature of the `infonce` forms.
        margin: margin of the `hinge` forms, in units of the real within-class standard deviation,
            the root of the variance summed over features.
        cross_entropy: weight of the classification loss of the trained networks.
        adversarial: weight of a discriminator loss; the discriminator learns, alongside, to tell
            real images of a class from stored ones.
        adversarial_lr: learning rate of the discriminator.
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
        steps: optimiser steps, warm start included. Null takes as many as still improve accuracy:
            100 for images of up to 32 pixels a side and none above, where samples start as real
            images; 4000 where they start as noise. A published method sets 4000, whatever its
            samples start as.
        coding_steps: steps before these in which codes and networks of a generator are fitted to
            the real images that its samples start from; null chooses by the number of samples.
        init: what samples start as: `real` images; `class_mean`, images drawn around the means of
            their classes, so that the file holds no copy of a training image; or `noise`. `auto`
            is real.
        selection: which real images samples start from: `random` ones; ones that follow the class
            mean (`herding`); or random ones among the half that the trained networks classify with
            the smaller loss (`easy`).
        warm_start: share of the steps that fit the samples to real images before matching. Null is
            0.5 after a start from noise and 0 after a start from real images, which are fitted
            already.
        warm_lr: peak learning rate of the warm start.
        match_lr: peak learning rate of matching.
        warm_batch_size: samples per warm-start step.
        batch_per_class: samples per class in a matching step; null takes all of them.
        class_batch: classes per matching step, one from each of so many fixed random groups; null
            takes all of them.
        micro_batch: samples to pass through the network at once: less memory and the same
            gradients, for a second forward pass; null passes all samples of a step at once.
        clip: largest norm of the gradient.
        ema_decay: largest decay of a moving average of the stored set, which the file then holds;
            0 stores the last step.
        check: whether a run ends by training one short student on its samples as they started and
            one as they are in the file, in a tenth of its time at most.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of `metrics.jsonl`.
    """

    steps: Count | None = None
    coding_steps: Positive | None = None
    init: Literal["auto", "class_mean", "noise", "real"] = "auto"
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
    check: bool = True
    checkpoint_every: Positive = 100
    log_every: Positive = 10


LEAST_PARTS, _MOST_PARTS = 4, 64  # snapshots an epoch where the options leave them open
_STEPS_OF_PART = 24  # of SGD between two of them, a sixteenth of an epoch of CIFAR-10
_BATCH = 128  # of experts


@dataclass(frozen=True, config=STRICT)
class TrajectoryConfig:
    """Trajectory matching (MTT, 2203.11932), after the matching of features.

    Attributes:
        steps: trajectory-matching steps, after the `training.steps`; 0 leaves them out.
        lr: peak learning rate of the stored set.
        experts: number of networks trained on all real images, whose weights are followed.
        epochs: training epochs of an expert.
        parts: snapshots of an expert's weights per epoch; null takes one every 24 steps of SGD, but
            4 to 64 of them.
        max_start_epoch: latest epoch from which a step starts.
        span: snapshots between the start and the target of a step.
        inner_steps: SGD steps on stored samples that should lead from start to target.
        batch_size: samples per inner step.
        inner_lr: learning rate of the experts and of the inner steps.
    """

    steps: Count = 0
    lr: PositiveFloat = 1e-3
    experts: Positive = 3
    epochs: Positive = 5
    parts: Positive | None = None
    max_start_epoch: Positive = 4
    span: Positive = 4
    inner_steps: Positive = 12
    batch_size: Positive = 128
    inner_lr: PositiveFloat = 0.05

    def __post_init__(self) -> None:
        parts = self.parts or LEAST_PARTS
        if self.max_start_epoch * parts + self.span > self.epochs * parts:
            raise ValueError(
                f"a step that starts in epoch {self.max_start_epoch} and spans {self.span} of "
                f"{parts} snapshots an epoch ends after the {self.epochs} epochs of an expert: "
                "make trajectory.epochs larger"
            )

    def parts_of(self, images: int) -> int:
        """Snapshots per epoch where an epoch has so many images.

        What a step asks of a few steps on stored samples should be about as far as these can go:
        snapshots lie as many steps apart in small data sets as in large ones.
        """
        steps = round(images / (_BATCH * _STEPS_OF_PART))
        return self.parts or min(max(steps, LEAST_PARTS), _MOST_PARTS)


@dataclass(frozen=True, config=STRICT)
class LabelConfig:
    """How samples get soft labels, where `store.soft_labels` is above 0.

    Attributes:
        source: who gives the soft labels: the trained feature networks (`pool`), or networks
            trained on all real images (`full_data`; see `teachers`).
        num_augmentations: augmented views of each sample that a teacher labels; the first is the
            sample itself.
        temperature: softmax temperature of the teachers.
        hard_label_weight: share of the hard label in the stored label.
        epsilon: radius, in 255ths of the pixel range, of adversarial training of the networks that
            give the labels (`source` = `pool`); 0 uses the feature networks as they are.
        labeller: share of the bytes of the file for a small network that labels augmented views
            while a student learns; 0 has none, null takes a tenth where images are larger than 32
            pixels a side, labels hard, and 24 channels fit. It is trained on all real images for
            `teachers.epochs`, or fewer where they are very many.
    """

    source: Literal["pool", "full_data"] = "pool"
    num_augmentations: Positive = 16
    temperature: PositiveFloat = 1.0
    hard_label_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    epsilon: Epsilon = 0.0
    labeller: Annotated[float, Field(ge=0.0, le=0.9)] | None = None


@dataclass(frozen=True, config=STRICT)
class TeacherConfig:
    """Networks trained on all real images, for `labels.source=full_data`.

    Attributes:
        model: architecture: one of `gencond_fast.models.registry.MODEL_NAMES`, or your own as
            `module:function`.
        width: channels of a ConvNet.
        count: number of teachers, each with its own initial weights and order of images.
        epochs: training epochs.
    """

    model: str = "convnet3"
    width: Positive = 128
    count: Positive = 1
    epochs: Positive = 20
