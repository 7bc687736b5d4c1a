"""All options of evaluations, scores and audits."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from gencond_fast.config.running import RunOptions
from gencond_fast.config.types import (
    STRICT,
    AttackName,
    Count,
    Epsilon,
    PathText,
    Positive,
    PositiveFloat,
    without_repetition,
)

_EPOCHS = 1000  # of students, the literature's


BaselineName = Literal["random", "raw", "jpeg", "avif", "full"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)


@dataclass(frozen=True, config=STRICT)
class BaselineConfig:
    """How the images of the baselines `jpeg` and `avif` are stored.

    Attributes:
        quality: from 1 to 100, as Pillow takes it; null takes the one at which images weigh as
            much as coded samples would.
    """

    quality: Annotated[int, Field(ge=1, le=100)] | None = None


@dataclass(frozen=True, config=STRICT)
class AttackConfig:
    """Adversarial attacks on students (L-infinity); see `gencond_fast.evaluation.attacks`.

    Attributes:
        names: attacks to run; `autoattack` needs the extra `attacks`.
        epsilon: largest change of a pixel, in 255ths of its range.
        steps: steps of `pgd`.
        step_size: step size of `pgd`, in 255ths; null takes a quarter of `epsilon`.
        images: most test images to attack, shared evenly among the classes.
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
class JudgingOptions(RunOptions):
    """What is judged, and on which images.

    See also `RunOptions`; its `data` must be the data set that the file was condensed from.

    Attributes:
        run: run directory or condensed file.
        test_split: name of the split of the data to test on; null takes the images that were held
            out from the condensation, else validation before test.
    """

    run: PathText
    test_split: str | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EvaluateConfig(JudgingOptions):
    """Students trained from scratch on a condensed set and on baselines; see `JudgingOptions`.

    Attributes:
        models: architectures of the students: names of
            `gencond_fast.models.registry.MODEL_NAMES`, a ConvNet with its width (`convnet3@64`),
            `all` (a ConvNet for the image size and one network of each other kind), `timm:NAME` or
            `torchvision:NAME` where that is installed, or `module:function` of your own.
        protocol: how students are trained: `dc` as in the literature; `modern` with AdamW, a
            cosine schedule, CutMix and averaged weights; `soft` as `modern` on the stored soft
            labels. See `gencond_fast.training.protocol`.
        seeds: number of students per architecture and training set.
        parallel_students: students to train at once in one batched network; more than 1 is meant
            for GPUs. See `gencond_fast.training.ensemble`.
        epochs: training epochs on the condensed images; the literature trains `dc` for 1000.
            Baselines have as many, and more where that would be fewer steps of the optimiser.
        student_steps: steps of the optimiser on every training set, in whole epochs; null goes by
            `epochs`.
        baselines: further training sets to compare with: `random` (as many random real images per
            class as the budget is in IPC), `raw` (as many as the file has samples), `jpeg` and
            `avif` (as many as fit into the bytes of the file by that codec), `full` (all real
            training images).
        baseline: how baselines are stored.
        classes: names of the file's classes to use, two or more; null takes all of them.
        without_augmentation: whether to train students without augmentation as well, on the
            condensed set and every baseline but `full`; the augmentation-robust score needs them.
        sampling: `fixed` trains on the stored samples, `fresh` on new ones drawn every epoch.
        attack: adversarial attacks on the trained students.
    """

    models: tuple[str, ...] = ("convnet3",)
    protocol: Literal["dc", "modern", "soft"] = "dc"
    seeds: Positive = 3
    parallel_students: Positive = 1
    epochs: Positive = _EPOCHS
    student_steps: Positive | None = None
    baselines: tuple[BaselineName, ...] = ()
    baseline: BaselineConfig = BaselineConfig()
    classes: tuple[str, ...] | None = None
    without_augmentation: bool = False
    sampling: Literal["fixed", "fresh"] = "fixed"
    attack: AttackConfig = AttackConfig()

    def __post_init__(self) -> None:
        if not self.attack.names and self.attack != AttackConfig():
            raise ValueError("an attack has options but no name: add --attack pgd")
        if self.student_steps is not None and self.epochs != _EPOCHS:
            raise ValueError("students train for --epochs or for --student-steps: give one of both")

    @property
    def training_sets(self) -> tuple[tuple[str, bool], ...]:
        """What students are trained on, by name, and whether its images are augmented."""
        condensed = "stored" if self.sampling == "fixed" else "fresh"
        names = (condensed, *self.baselines)
        plain = (name for name in names if name != "full" and self.without_augmentation)
        return (*((name, True) for name in names), *((name, False) for name in plain))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ScoreConfig(JudgingOptions):
    """Stored images compared with test images in the features of a trained network.

    See also `JudgingOptions`.

    Attributes:
        model: architecture of the feature network; null takes a ConvNet of the depth for the image
            size.
        width: channels of a ConvNet.
        epochs: training epochs of the feature network.
        images: most stored and most test images to compare, shared evenly among the classes.
        k: number of the nearest neighbour that sets the radius around each image.
    """

    model: str | None = None
    width: Positive = 128
    epochs: Positive = 20
    images: Positive = 10_000
    k: Positive = 5


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AuditConfig(JudgingOptions):
    """Membership inference: was an image among those that a file was condensed from?

    See also `JudgingOptions`; `run` must be a run directory if there are shadows.

    Attributes:
        shadows: number of condensations of random halves of the training images, for the LiRA
            attack: an even number, 6 or more; 0 attacks by loss alone.
        model: architecture of the students, as in `EvaluateConfig.models`.
        protocol: how students are trained, as in `EvaluateConfig`.
        seeds: number of students of the file; each shadow has one.
        epochs: training epochs.
        images: most members and most non-members to ask about.
    """

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
