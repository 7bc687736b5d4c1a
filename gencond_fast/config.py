"""Every option and its default, once; and the presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from gencond_fast.models.spec import Small

_STRICT = ConfigDict(extra="forbid")
Name = TypeVar("Name", bound=str)

Positive = Annotated[int, Field(ge=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Weight = Annotated[float, Field(allow_inf_nan=False)]
Device = Literal["auto", "cpu", "cuda"]
OnBadImage = Literal["error", "skip"]
ReaderName = Literal["auto", "dali", "processes", "threads"]
Precision = Literal["auto", "float32", "bfloat16"]
# YAML reads a bare on or off as true or false
Switch = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(lambda v: ("off", "on")[v] if isinstance(v, bool) else v),
]
AttackName = Literal["fgsm", "pgd", "autoattack"]
Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
DISCREPANCY_NAMES = (
    "mean",
    "moments",
    "cf",
    "mmd",
    "sliced_wasserstein",
    "gradient",
    "gradient_squared",
    "gradient_l1",
    "batchnorm",
    "logit",
)


def _without_repetition(names: tuple[Name, ...]) -> tuple[Name, ...]:
    if len(set(names)) < len(names):
        raise ValueError("it names one of them twice")
    return names


_OF_FORMATS = {
    "width": ("generator",),
    "code_channels": ("generator",),
    "code_size": ("generator", "pixels"),
    "sample_bytes": ("dct",),
    "coefficients": ("dct",),
    "factor": ("pixels",),
}


@dataclass(frozen=True, config=_STRICT)
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

    def __post_init__(self) -> None:
        for name, formats in _OF_FORMATS.items():
            if getattr(self, name) is not None and self.format not in formats:
                raise ValueError(f"{name} is for format={' or '.join(formats)}: leave it out")
        if self.factor is not None and self.code_size is not None:
            raise ValueError("give the side of stored images as factor or as code_size, not both")


@dataclass(frozen=True, config=_STRICT)
class NetworkConfig:
    """The feature networks and the statistics of the real data under them.

    Attributes:
        model: architecture, one of `gencond_fast.models.registry.MODEL_NAMES` or the user's own
            `module:function`.
        width: channels of a ConvNet.
        random: networks with random weights.
        trained: networks trained on real images, each for a different number of steps.
        interpolated: networks between the initial and the trained weights of those (2502.20653);
            those at least half-way to the trained ones classify as well.
        train_steps: steps of the longest trained one; the others are spaced down to a tenth.
        train_images: real images of a class that the training (and warm start) draws from.
        augmentations: augmentations in the table of each network, the first one the identity.
        operations: the policy: what the other augmentations do, in turn, and what the batches
            are put through that the networks are trained on.
        images_per_class: real images of a class behind the statistics; None takes them all.
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
    width: Positive = 128
    random: Count = 2
    trained: Count = 4
    interpolated: Count = 0
    train_steps: Positive = 600
    train_images: Positive = 1000
    augmentations: Positive = 7
    operations: Annotated[
        tuple[Operation, ...], Field(min_length=1), AfterValidator(_without_repetition)
    ] = OPERATIONS
    images_per_class: Positive | None = 1000
    real_batch: Positive | None = None
    sample_batch: Positive = 64
    frequencies: Positive = 256
    frequency_scale: PositiveFloat = 1.0


@dataclass(frozen=True, config=_STRICT)
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
    """

    discrepancies: Mapping[str, Weight] = dataclasses.field(default_factory=lambda: {"mean": 1.0})
    intra: Weight = 0.01
    intra_kind: Literal["infonce", "rbf", "hinge", "nearest"] = "infonce"
    inter: Weight = 0.01
    inter_kind: Literal["hinge", "infonce"] = "hinge"
    temperature: PositiveFloat = 0.1
    margin: PositiveFloat = 1.0
    cross_entropy: Weight = 0.1


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """The optimisation of the stored set.

    Attributes:
        steps: optimiser steps, warm start included.
        start: stored samples start as `real` images or as `noise`; `auto` is real where the format
            can take images over, which a generator cannot.
        warm_start: share of the steps spent fitting chosen real images; 0 leaves it out. None is
            half of them after a start from noise. After a start from real images there is nothing
            to fit, and a share that is given all the same is left out of the matching.
        warm_rate: peak learning rate of the warm start.
        match_rate: peak learning rate of the matching.
        warm_batch: samples in a warm-start step.
        batch_per_class: samples of a class in a matching step; None takes all that are stored.
        class_batch: classes in a matching step; None takes all.
        clip: largest norm of the gradient.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of `metrics.jsonl`.
    """

    steps: Positive = 4000
    start: Literal["auto", "noise", "real"] = "auto"
    warm_start: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    warm_rate: PositiveFloat = 4e-3
    match_rate: PositiveFloat = 1e-3
    warm_batch: Positive = 256
    batch_per_class: Positive | None = 32
    class_batch: Positive | None = None
    clip: PositiveFloat = 1.0
    checkpoint_every: Positive = 100
    log_every: Positive = 10


@dataclass(frozen=True, config=_STRICT)
class TrajectoryConfig:
    """Matching of training trajectories (2203.11932) after the matching of features.

    Attributes:
        steps: optimiser steps of it, beyond `training.steps`; 0 leaves it out.
        rate: peak learning rate of the stored set.
        experts: networks, as `networks.model` and `networks.width` say, trained on the whole
            training split, whose weights are followed.
        epochs: of an expert.
        parts: of an epoch, after each of which its weights are kept.
        start: the first epochs, in which the weights lie that a step starts from.
        span: parts that lie between start and target.
        inner_steps: of SGD on stored samples that are to lead to the target.
        batch: stored samples in each of them.
        inner_rate: learning rate of expert and inner steps.
    """

    steps: Count = 0
    rate: PositiveFloat = 1e-3
    experts: Positive = 3
    epochs: Positive = 10
    parts: Positive = 4
    start: Positive = 6
    span: Positive = 3
    inner_steps: Positive = 12
    batch: Positive = 128
    inner_rate: PositiveFloat = 0.05

    def __post_init__(self) -> None:
        if self.start * self.parts + self.span > self.epochs * self.parts:
            raise ValueError(
                f"a start in epoch {self.start} and {self.span} parts of 1/{self.parts} from there "
                f"end behind the {self.epochs} epochs of an expert: make epochs larger"
            )


@dataclass(frozen=True, config=_STRICT)
class LabelConfig:
    """How stored samples get soft labels, where `store.soft_labels` asks for them.

    Attributes:
        teachers: `pool` is the trained feature networks of the run, `teachers` networks trained on
            all training images (`TeacherConfig`).
        augmentations: of each sample that a teacher sees, the first one the identity.
        temperature: that logits are divided by.
        hard: the share of the hard label in the result.
    """

    teachers: Literal["pool", "teachers"] = "pool"
    augmentations: Positive = 16
    temperature: PositiveFloat = 1.0
    hard: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class Config:
    """One condensation.

    Attributes:
        data: path or name of the data set.
        out: run directory.
        val_fraction: share of each class of the training split that is held out and tested on
            in place of the data's own validation split, if it has one: for choices between
            settings, and for data without a split.
        classes: names of the classes to condense, at least two, which keep the order they have in
            the data; None takes all.
        on_bad_image: whether an image that cannot be decoded is an `error` or is left out
            (`skip`); see `gencond_fast.data.open_source`.
        reader: who decodes images: DALI, or Pillow in processes or threads; `auto` takes the
            fastest, see `gencond_fast.data.choice`.
        in_memory: whether images that are read more than once are decoded once and kept; `auto`
            keeps what fits into a quarter of the memory that is left.
        image_size: side in pixels; None keeps the data's own side up to 64.
        ipc: budget in images per class (float32 pixels). Ten when `bytes` is not given.
        bytes: budget in bytes of the file; excludes `ipc`.
        seed: of everything random.
        device: `auto` takes a GPU when there is one.
        precision: of the feature networks; `auto` is bfloat16 where the device has it in
            hardware.
        compile: `torch.compile` of generator and networks; `auto` weighs its cost.
    """

    data: str
    out: str
    val_fraction: Fraction | None = None
    classes: tuple[str, ...] | None = None
    on_bad_image: OnBadImage = "error"
    reader: ReaderName = "auto"
    in_memory: Switch = "auto"
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    ipc: Positive | None = None
    bytes: Positive | None = None
    seed: Count = 0
    device: Device = "auto"
    precision: Precision = "auto"
    compile: Switch = "auto"
    store: StoreConfig = StoreConfig()
    networks: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()
    labels: LabelConfig = LabelConfig()
    teachers: TeacherConfig = TeacherConfig()

    def __post_init__(self) -> None:
        if self.ipc is not None and self.bytes is not None:
            raise ValueError("give the budget as ipc or as bytes, not both")
        if self.networks.random + self.networks.trained == 0:
            raise ValueError("networks.random and networks.trained are both 0: one must not be")
        if self.networks.interpolated and not self.networks.trained:
            raise ValueError(
                "networks.interpolated is above 0 and networks.trained is 0: there are no trained "
                "weights to be near to"
            )
        if (self.training.start, self.store.format) == ("real", "generator"):
            raise ValueError(
                "training.start is real, and a generator can only be fitted to images: leave it "
                "out for training.warm_start, or set store.format=dct or pixels"
            )
        if (self.training.start, self.store.format) == ("noise", "dct"):
            raise ValueError(
                "training.start is noise, and dct starts from real images, which give the scale "
                "of its frequencies: leave it out, or set store.format=pixels"
            )
        losses, all_trained = self.losses, self.networks.random == 0
        weighed = any(losses.discrepancies.values()) or losses.intra or losses.inter
        if not (weighed or (all_trained and losses.cross_entropy)) and self.warm_share < 1:
            raise ValueError(
                "losses leaves nothing to minimise (cross_entropy counts for trained networks "
                "alone): give a discrepancy, intra or inter a weight"
            )
        if self.store.soft_labels and self.labels.teachers == "pool" and not self.networks.trained:
            raise ValueError(
                "labels.teachers is pool and networks.trained is 0, so nothing gives soft labels: "
                "set labels.teachers=teachers, or networks.trained to 1 or more"
            )
        if self.ipc is None and self.bytes is None:
            object.__setattr__(self, "ipc", 10)

    @property
    def starts_real(self) -> bool:
        """Whether stored samples start as real images."""
        start = self.training.start
        return self.store.format != "generator" if start == "auto" else start == "real"

    @property
    def warm_share(self) -> float:
        """The share of the steps that come before the matching."""
        share = self.training.warm_start
        if share is None:
            return 0.0 if self.starts_real else 0.5
        return share


@dataclass(frozen=True, config=_STRICT)
class AttackConfig:
    """Attacks on students, in the L-infinity norm; see `gencond_fast.evaluation.attacks`.

    Attributes:
        names: which; `autoattack` needs the extra `attacks`.
        epsilon: how far a pixel may go, in 255ths of its range.
        steps: of `pgd`.
        step_size: of `pgd`, in 255ths; None is a quarter of `epsilon`.
        images: the most test images that are attacked; as many of each class as can be.
    """

    names: Annotated[tuple[AttackName, ...], AfterValidator(_without_repetition)] = ()
    epsilon: Annotated[float, Field(ge=0.0, le=255.0)] = 8.0
    steps: Positive = 10
    step_size: PositiveFloat | None = None
    images: Positive = 1000

    @property
    def step(self) -> float:
        """How far a pixel goes in a step of `pgd`, in 255ths."""
        return self.epsilon / 4 if self.step_size is None else self.step_size


@dataclass(frozen=True, config=_STRICT)
class EvaluateConfig:
    """Students trained from scratch on a condensed set and on controls.

    Attributes:
        run: run directory or condensed file.
        data: path or name of the data set whose validation split is the test.
        models: architectures of the students, each one of
            `gencond_fast.models.registry.MODEL_NAMES`, `all` (a ConvNet of the depth that fits the
            image size and one network of each other kind), or `module:function` of the user's own.
        protocol: how students are trained, see `gencond_fast.evaluation.protocol`: `dc` as in the
            literature, `modern` (AdamW, cosine, CutMix, averaged weights), `soft` (as `modern`, on
            the soft labels that are stored).
        seeds: students of each kind.
        epochs: passes over the training set; 1000 in the published `dc`.
        controls: other training sets beside the condensed one; `random` is as many real
            images a class as the budget is in IPC, `jpeg` as many as fit into the bytes of the
            file as JPEG (see `gencond_fast.evaluation.jpegs`), `full` all real training images,
            streamed.
        classes: names of the file's classes to train and test on, at least two; None takes all.
        on_bad_image, reader, in_memory: as in `Config`.
        split: `stored` (a finite list) or `stream` (fresh codes every epoch).
        attack: what the trained students are attacked by.
        device, precision, compile: as in `Config`.
    """

    run: str
    data: str
    models: tuple[str, ...] = ("convnet3",)
    protocol: Literal["dc", "modern", "soft"] = "dc"
    seeds: Positive = 3
    epochs: Positive = 1000
    controls: tuple[Literal["random", "jpeg", "full"], ...] = ()
    classes: tuple[str, ...] | None = None
    on_bad_image: OnBadImage = "error"
    reader: ReaderName = "auto"
    in_memory: Switch = "auto"
    split: Literal["stored", "stream"] = "stored"
    attack: AttackConfig = AttackConfig()
    device: Device = "auto"
    precision: Precision = "auto"
    compile: Switch = "auto"

    def __post_init__(self) -> None:
        if not self.attack.names and self.attack != AttackConfig():
            raise ValueError("there are options of an attack and no attack: add --attack pgd")


@dataclass(frozen=True, config=_STRICT)
class ScoreConfig:
    """Stored images compared with test images in the features of a trained network.

    Attributes:
        run: run directory or condensed file.
        data: path or name of the data set, with the test images.
        model: architecture of the feature network, as in `TeacherConfig`; None takes a ConvNet of
            the depth that fits the image size.
        width: channels of a ConvNet.
        epochs: passes over the training images that the network is trained for.
        images: the most that are compared, of each kind; shared out evenly among the classes.
        nearest: which neighbour the balls around features reach to.
        on_bad_image, reader, in_memory, device, precision, compile: as in `Config`.
    """

    run: str
    data: str
    model: str | None = None
    width: Positive = 128
    epochs: Positive = 20
    images: Positive = 10_000
    nearest: Positive = 5
    on_bad_image: OnBadImage = "error"
    reader: ReaderName = "auto"
    in_memory: Switch = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    compile: Switch = "auto"


PRESETS: dict[str, dict[str, Any]] = {
    "standard": {},
    "quick": {
        "networks": {"width": 64, "train_steps": 120, "random": 1, "trained": 3},
        "training": {"steps": 1200},
    },
    "accurate": {
        "networks": {"width": 64},
        "training": {"steps": 400},
        "trajectory": {"steps": 600},
    },
}

_ALONE: dict[str, Any] = {"intra": 0.0, "inter": 0.0, "cross_entropy": 0.0}
_REAL_BATCHES: dict[str, Any] = {
    **{"random": 20, "trained": 0, "train_images": 5000, "real_batch": 256},
    "images_per_class": 100,  # the statistics give no more than the scale
}
_FROM_REAL: dict[str, Any] = {"start": "real", "warm_start": 0.0, "batch_per_class": None}

# published systems, over the preset and under everything else; docs/methods.md has the reasons
METHODS: dict[str, dict[str, Any]] = {
    "gencond": {},
    "dm": {
        "store": {"format": "pixels"},
        "networks": _REAL_BATCHES,
        "losses": _ALONE | {"discrepancies": {"mean": 1.0}},
        "training": _FROM_REAL,
    },
    "m3d": {
        "store": {"format": "pixels", "factor": 2},
        "networks": _REAL_BATCHES,
        "losses": _ALONE | {"discrepancies": {"mmd": 1.0}},
        "training": _FROM_REAL,
    },
    "ncfm": {
        "store": {"format": "pixels", "factor": 2},
        "networks": {"random": 0, "trained": 4, "interpolated": 8, "frequencies": 1024},
        "losses": _ALONE | {"discrepancies": {"cf": 1.0}, "cross_entropy": 1.0},
        "training": _FROM_REAL,
    },
    "sre2l": {
        "store": {"format": "pixels", "soft_labels": 10},
        "networks": {
            **{"model": "convnet3bn", "random": 0, "trained": 1},
            "operations": ("crop", "flip"),
        },
        "losses": _ALONE | {"discrepancies": {"batchnorm": 0.05}, "cross_entropy": 1.0},
        "labels": {"hard": 0.0},
        "training": {"start": "noise", "warm_start": 0.0, "batch_per_class": 10},
    },
    "dim": {
        "store": {"format": "generator"},
        "networks": {"random": 0, "trained": 6},
        "losses": _ALONE | {"discrepancies": {"logit": 1.0}},
    },
}
