"""Generated images against real ones, as a network trained on the real ones sees both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gencond_fast.condensation.task import Task, open_task, set_up
from gencond_fast.condensation.teachers import build_teachers
from gencond_fast.config import Config, EvaluateConfig, ScoreConfig, run_options
from gencond_fast.config.options import resolve
from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import Source
from gencond_fast.errors import InputError
from gencond_fast.evaluation.manifold import manifold_scores
from gencond_fast.evaluation.nearest import MOST_SAMPLES, NearestImages, nearest_images
from gencond_fast.evaluation.run import open_test, split_of
from gencond_fast.functional.covariance import class_covariances, frechet_distance
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import ALL, build_classifier, choose_models, has_width
from gencond_fast.store.artifact import Artifact, load
from gencond_fast.system.environment import describe
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import derive_seed, named_rng
from gencond_fast.training.train import accuracy

_BATCH = 128
_REAL_BYTES = 2 * 1024**3
_WIDEST = 8192  # features whose covariance and its eigenvectors are still a matter of minutes


@dataclass(frozen=True)
class Scores:
    """How generated images lie among real ones.

    Attributes:
        coverage, density, precision, recall: see `gencond_fast.evaluation.manifold`.
        frechet_distance: squared, between Gaussians fitted to the features (see
            `gencond_fast.frechet_distance`); not FID, which is of other features.
        model: architecture of the feature network.
        epochs: that it was trained for, on all real training images.
        accuracy: of the network on the test images, as a fraction.
        features: D.
        k: k of the balls.
        generated: stored images that were compared.
        real: test images that they were compared with.
        nearest: training images that are nearest to stored ones, and how near.
        environment: versions and machine.
    """

    coverage: float
    density: float
    precision: float
    recall: float
    frechet_distance: float
    model: str
    epochs: int
    accuracy: float
    features: int
    k: int
    generated: int
    real: int
    nearest: NearestImages
    environment: dict[str, Any]
    tested_on: str | None = None


def score(config: ScoreConfig, reporter: Reporter | None = None) -> Scores:
    """Compares the stored images of a file with test images, class by class as many.

    The feature network is trained on all real training images as `gencond-fast teachers` does it,
    or is taken from the cache; an interrupted training goes on.

    Args:
        config: all options.
        reporter: told of progress; silent when None.

    Raises:
        InputError: the file, the data or an option cannot be used.
        RunError: the network diverged.
        OSError: the cache cannot be written.
    """
    reporter = reporter or Reporter()
    artifact = load(config.run)
    size = artifact.metadata.store.image_size
    model = config.model or choose_models([ALL], size)[0]
    making, source = _open(config, artifact, model, reporter)
    _check_model(making, source, size)
    task = open_task(set_up(making, source, size, reporter))
    real, chosen = _test_images(task, config), _stored_samples(artifact, config)
    if not config.k < min(len(real), len(chosen)):
        raise InputError(
            f"option 'k' is {config.k}, and {len(chosen)} stored images are compared "
            f"with {len(real)} real ones: it must be lower than both"
        )
    (network,) = build_teachers(task)
    store = artifact.store.to(task.runtime.device)
    stored = chosen.to(task.runtime.device)
    with torch.no_grad():
        features = [
            _features(task, network, images)
            for images in (iter(real.split(_BATCH)), map(store, stored.split(_BATCH)))
        ]
    manifold = manifold_scores(*features, k=config.k)
    distance = frechet_distance(*(class_covariances(each) for each in features))
    right = accuracy(network, source, size, task.normalisation, task.runtime)
    some = stored[:: max(1, -(-len(chosen) // MOST_SAMPLES))]
    with torch.no_grad():
        samples = torch.cat([store(part).cpu() for part in some.split(_BATCH)])
    source.tell_left_out(reporter.message)
    return Scores(
        **asdict(manifold),
        frechet_distance=float(distance),
        model=model,
        epochs=config.epochs,
        accuracy=right,
        features=network.feature_dim,
        k=config.k,
        generated=len(chosen),
        real=len(real),
        nearest=nearest_images(samples, some.cpu(), source),
        environment=describe() | {"runtime": task.runtime.describe()},
        tested_on=source.tested_on,
    )


def _open(
    config: ScoreConfig, artifact: Artifact, model: str, reporter: Reporter
) -> tuple[Config, Source]:
    """The options of the training of the network, and the data, split as for the condensation."""
    split = split_of(artifact)
    test = EvaluateConfig(run=config.run, test_split=config.test_split, **run_options(config))
    source = open_test(test, artifact, split, reporter)
    teacher = {"model": model, "width": config.width, "epochs": config.epochs, "count": 1}
    making = {
        **run_options(config),
        **{"out": "", "image_size": artifact.metadata.store.image_size, "teachers": teacher},
        "val_fraction": split.val_fraction,
        "label_column": config.label_column or split.label_column,
        "transparency": config.transparency or split.transparency,
        # the seed decides on the network too, which is the same for all files unless it must be
        "seed": 0 if split.val_fraction is None else split.seed,
    }
    return resolve(making), source


def _check_model(making: Config, source: Source, size: int) -> None:
    model = making.teachers.model
    width = making.teachers.width if has_width(model) else None
    classes = len(source.class_names)
    features = build_classifier(
        model, source.channels, classes, size, seed=0, width=width
    ).feature_dim
    if features > _WIDEST:
        raise InputError(
            f"model {model!r} has {features:,} features of {size} pixels, more than the "
            f"{_WIDEST:,} whose covariance is computed: choose --model resnet18"
        )


def _test_images(task: Task, config: ScoreConfig) -> Tensor:
    """uint8 [N, channels, S, S], as many of each class as there are, up to a share of `images`."""
    source = task.source
    assert source.val is not None
    sample = draw_sample(
        replace(source, train=source.val),
        image_size=task.image_size,
        per_class=max(1, config.images // task.num_classes),
        max_bytes=_REAL_BYTES,
        seed=derive_seed(0, "scored images") % 2**32,
    )
    return sample.images


def _stored_samples(artifact: Artifact, config: ScoreConfig) -> Tensor:
    """Which are compared, int64 [M]: random ones of each class, up to a share of `images`."""
    spec = artifact.metadata.store
    wanted = min(spec.per_class, max(1, config.images // spec.num_classes))
    order = torch.rand(spec.num_classes, spec.per_class, generator=named_rng(0, "scored samples"))
    places = order.argsort(1)[:, :wanted].sort(1).values
    return (torch.arange(spec.num_classes)[:, None] * spec.per_class + places).flatten()


def _features(task: Task, network: Classifier, images: Iterator[Tensor]) -> Tensor:
    """float32 [n, D] of batches of images, uint8 or in [0, 1], on the CPU."""
    found = []
    for part in images:
        batch = task.normalisation(part.to(task.runtime.device))
        with task.runtime.autocast():
            found.append(network.features(task.runtime.arrange(batch)).float().cpu())
    return torch.cat(found)
