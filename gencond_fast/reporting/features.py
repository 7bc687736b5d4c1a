"""Where the classes lie to a network: features in two dimensions, distances between centres."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor

from gencond_fast.data.classes import MissingClass
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.sample import Sample, draw_sample
from gencond_fast.data.source import open_source
from gencond_fast.errors import InputError
from gencond_fast.functional.moments import ClassMoments, class_moments
from gencond_fast.models.registry import build_classifier
from gencond_fast.reporting.record import Record
from gencond_fast.store.artifact import Artifact
from gencond_fast.system.rng import derive_seed

MODEL, SEED = "convnet3", 0
MOST_CLASSES = 20
MOST_SAMPLES = 24  # of a class
_LARGEST_SIDE = 32
_BATCH = 64
_MAX_BYTES = 256 * 1024**2


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Generated samples, and real images where there are any, as a network sees them.

    Attributes:
        classes: C', of those that are shown.
        side: of the images that the network is given, in pixels.
        generated: positions of samples, class after class, float64 [M, 2].
        labels: their classes, int64 [M].
        real: positions of real images, float64 [R, 2], R = 0 without data.
        real_labels: their classes, int64 [R].
        distances: between the centres of generated classes, float64 [C', C'], in units of the
            root mean square distance of a sample from the centre of its class.
        real_distances: likewise of real images, in the same unit; None without data.
        offsets: from the centre of each real class to that of the generated one, float64 [C'];
            None without data.
        explained: share of the variance along either axis.
    """

    classes: int
    side: int
    generated: np.ndarray
    labels: np.ndarray
    real: np.ndarray
    real_labels: np.ndarray
    distances: np.ndarray
    real_distances: np.ndarray | None
    offsets: np.ndarray | None
    explained: tuple[float, float]


def map_features(record: Record, data: str | None) -> FeatureMap:
    """Embeds some samples of the first classes by a network with random weights.

    The network is ConvNet-3 of width 128, its weights drawn from the seed 0, on images of at most
    32 pixels; axes are the principal components of generated and real features together.

    Args:
        record: the run.
        data: path or name of its data, for real images beside the samples.

    Raises:
        InputError: the data cannot be used, or is not that of the run.
    """
    artifact = record.artifact
    classes = min(artifact.metadata.store.num_classes, MOST_CLASSES)
    index, labels = _chosen(artifact, classes)
    found = [_embed(artifact, (artifact.store(part) for part in index.split(_BATCH)), classes)]
    owners = [labels]
    if data is not None:
        sample = _real(record, data, classes)
        found.append(_embed(artifact, sample.images.split(_BATCH), classes))
        owners.append(sample.labels)
    fitted = PCA(2, svd_solver="randomized", random_state=SEED)
    positions = fitted.fit_transform(torch.cat(found).numpy())
    moments = [class_moments(f, o, classes) for f, o in zip(found, owners, strict=True)]
    unit = _spread(moments[0])
    apart = [_distances(m.mean, m.mean) / unit for m in moments]
    beside = _distances(moments[0].mean, moments[-1].mean).diagonal() / unit
    explained = fitted.explained_variance_ratio_
    return FeatureMap(
        classes=classes,
        side=min(artifact.metadata.store.image_size, _LARGEST_SIDE),
        generated=positions[: len(labels)],
        labels=labels.numpy(),
        real=positions[len(labels) :],
        real_labels=owners[1].numpy() if data else np.zeros(0, dtype=np.int64),
        distances=apart[0],
        real_distances=apart[1] if data else None,
        offsets=beside if data else None,
        explained=(float(explained[0]), float(explained[1])),
    )


def _chosen(artifact: Artifact, classes: int) -> tuple[Tensor, Tensor]:
    """Indices of samples, int64 [M], evenly spaced over each class, and their labels."""
    per_class = artifact.metadata.store.per_class
    count = min(per_class, MOST_SAMPLES)
    within = torch.arange(count) * per_class // count
    index = (torch.arange(classes)[:, None] * per_class + within).flatten()
    return index, torch.arange(classes).repeat_interleave(count)


def _real(record: Record, data: str, classes: int) -> Sample:
    """Some real training images of the first classes."""
    metadata = record.artifact.metadata
    config = record.config
    names = metadata.class_names[: max(classes, 2)]
    try:
        source = open_source(
            data,
            val_fraction=config.val_fraction,
            seed=config.seed,
            classes=names,
            in_given_order=True,
            label_column=config.label_column,
            transparency=config.transparency,
            on_bad_image="skip",
        )
    except MissingClass as error:
        raise InputError(
            f"--data {data} has no class {error.name!r} of {record.directory}: give the data that "
            "it was condensed from, or leave --data out"
        ) from None
    if source.channels > metadata.store.channels:
        raise InputError(
            f"--data {data} has colour, {record.directory} is gray: give the data that it was "
            "condensed from, or leave --data out"
        )
    return draw_sample(
        replace(source, channels=metadata.store.channels),
        image_size=metadata.store.image_size,
        per_class=MOST_SAMPLES,
        max_bytes=_MAX_BYTES,
        seed=SEED,
    )


@torch.no_grad()
def _embed(artifact: Artifact, batches: Iterable[Tensor], classes: int) -> Tensor:
    """Features float32 [M, D] of batches of images [B, channels, S, S], uint8 or in [0, 1]."""
    metadata = artifact.metadata
    side = min(metadata.store.image_size, _LARGEST_SIDE)
    network = build_classifier(
        MODEL, metadata.store.channels, classes, side, seed=derive_seed(SEED, "report")
    ).eval()
    normalise = Normalisation(metadata.mean, metadata.std)

    def embed(part: Tensor) -> Tensor:
        part = normalise(part)
        if part.shape[-1] > side:
            part = F.interpolate(part, size=(side, side), mode="bilinear", antialias=True)
        return network.features(part)

    return torch.cat([embed(part) for part in batches])


def _spread(moments: ClassMoments) -> float:
    """Root mean square distance of a sample from the centre of its class; 1 if there is none."""
    total = float(moments.m2.double().sum() / moments.count.sum())
    return total**0.5 or 1.0


def _distances(one: Tensor, other: Tensor) -> np.ndarray:
    """Euclidean distances [C, C] between rows of two tables [C, D]."""
    return torch.cdist(one.double(), other.double()).numpy()
