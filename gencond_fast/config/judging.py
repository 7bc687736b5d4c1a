"""All options of evaluations, scores and audits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from gencond_fast.config.running import RunOptions
from gencond_fast.config.types import (
    STRICT,
    AttackName,
    Count,
    Epsilon,
    Positive,
    PositiveFloat,
    without_repetition,
)


@dataclass(frozen=True, config=STRICT)
class AttackConfig:
    """Attacks on students, in the L-infinity norm; see `gencond_fast.evaluation.attacks`.

    Attributes:
        names: which; `autoattack` needs the extra `attacks`.
        epsilon: how far a pixel may go, in 255ths of its range.
        steps: of `pgd`.
        step_size: of `pgd`, in 255ths; None is a quarter of `epsilon`.
        images: the most test images that are attacked; as many of each class as can be.
    """

    names: Annotated[tuple[AttackName, ...], AfterValidator(without_repetition)] = ()
    epsilon: Epsilon = 8.0
    steps: Positive = 10
    step_size: PositiveFloat | None = None
    images: Positive = 1000

    @property
    def step(self) -> float:
        """How far a pixel goes in a step of `pgd`, in 255ths."""
        return self.epsilon / 4 if self.step_size is None else self.step_size


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EvaluateConfig(RunOptions):
    """Students trained from scratch on a condensed set and on baselines.

    See also `RunOptions`; its `data` must be the data set that the file was condensed from.

    Attributes:
        run: run directory or condensed file.
        models: architectures of the students, each one of
            `gencond_fast.models.registry.MODEL_NAMES`, a ConvNet of another width than 128
            (`convnet3@64`), `all` (a ConvNet of the depth that fits the image size and one network
            of each other kind), or `module:function` of the user's own.
        protocol: how students are trained, see `gencond_fast.training.protocol`: `dc` as in the
            literature, `modern` (AdamW, cosine, CutMix, averaged weights), `soft` (as `modern`, on
            the soft labels that are stored).
        seeds: students of each kind.
        parallel_students: how many of them learn at once in one batched network, from images that
            are held; see `gencond_fast.training.ensemble`. More than one is meant for GPUs.
        epochs: passes over the training set; 1000 in the published `dc`.
        baselines: other training sets beside the condensed one; `random` is as many real
            images a class as the budget is in IPC, `jpeg` as many as fit into the bytes of the
            file as JPEG (see `gencond_fast.evaluation.jpeg_baseline`), `full` all real training
            images, streamed.
        classes: names of the file's classes to train and test on, at least two; None takes all.
        without_augmentation: whether students are also trained without any augmentation, on the
            condensed set and on the baselines but `full`; the augmentation-robust score needs it.
        sampling: `fixed` (the stored samples) or `fresh` (fresh codes every epoch).
        attack: what the trained students are attacked by.
    """

    run: str
    models: tuple[str, ...] = ("convnet3",)
    protocol: Literal["dc", "modern", "soft"] = "dc"
    seeds: Positive = 3
    parallel_students: Positive = 1
    epochs: Positive = 1000
    baselines: tuple[Literal["random", "jpeg", "full"], ...] = ()
    classes: tuple[str, ...] | None = None
    without_augmentation: bool = False
    sampling: Literal["fixed", "fresh"] = "fixed"
    attack: AttackConfig = AttackConfig()

    def __post_init__(self) -> None:
        if not self.attack.names and self.attack != AttackConfig():
            raise ValueError("there are options of an attack and no attack: add --attack pgd")

    @property
    def training_sets(self) -> tuple[tuple[str, bool], ...]:
        """What students are trained on, by name, and whether its images are augmented."""
        condensed = "stored" if self.sampling == "fixed" else "fresh"
        names = (condensed, *self.baselines)
        plain = (name for name in names if name != "full" and self.without_augmentation)
        return (*((name, True) for name in names), *((name, False) for name in plain))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ScoreConfig(RunOptions):
    """Stored images compared with test images in the features of a trained network.

    See also `RunOptions`; its `data` must be the data set that the file was condensed from.

    Attributes:
        run: run directory or condensed file.
        model: architecture of the feature network, as in `TeacherConfig`; None takes a ConvNet of
            the depth that fits the image size.
        width: channels of a ConvNet.
        epochs: passes over the training images that the network is trained for.
        images: the most that are compared, of each kind; shared out evenly among the classes.
        k: which neighbour the balls around features reach to.
    """

    run: str
    model: str | None = None
    width: Positive = 128
    epochs: Positive = 20
    images: Positive = 10_000
    k: Positive = 5


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AuditConfig(RunOptions):
    """Membership inference: attacks that ask which images a condensed file was made from.

    See also `RunOptions`; its `data` must be the data set that the file was condensed from.

    Attributes:
        run: run directory, or condensed file where there are no shadows.
        shadows: random halves of the training images that are condensed as the run was, and
            attacked by LiRA: an even number, 6 or more; 0 attacks the file by loss alone.
        model: architecture of the students, as in `EvaluateConfig.models`.
        protocol: how students are trained, as in `EvaluateConfig`.
        seeds: students of the file; a shadow has one.
        epochs: passes over the condensed images.
        images: the most that are asked about, of either kind.
    """

    run: str
    shadows: Count = 0
    model: str = "convnet3"
    protocol: Literal["dc", "modern", "soft"] = "dc"
    seeds: Positive = 3
    epochs: Positive = 300
    images: Positive = 10_000

    def __post_init__(self) -> None:
        # without the pair under attack there must be two shadows with each image and two without
        if self.shadows and (self.shadows < 6 or self.shadows % 2):
            raise ValueError(f"shadows must be 0 or an even number from 6 on, not {self.shadows}")
