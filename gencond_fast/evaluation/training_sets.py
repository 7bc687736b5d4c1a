"""What students learn from: the condensed images, and the baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.config import EvaluateConfig
from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.sample import draw_sample, sample_rows
from gencond_fast.data.source import Source
from gencond_fast.errors import InputError
from gencond_fast.evaluation.codec_baseline import choose_quality, fit_coded
from gencond_fast.exporting.codecs import CodecName
from gencond_fast.store.artifact import Artifact, Metadata
from gencond_fast.store.budget import bytes_to_ipc
from gencond_fast.store.store import StoredSet
from gencond_fast.system.progress import Phase
from gencond_fast.system.rng import derive_seed, named_rng
from gencond_fast.training.epochs import Epochs, Images, held, streamed
from gencond_fast.training.protocol import Protocol

_CONTROL_BYTES = 2 * 1024**3
_HELD_BYTES = 1024**3  # of decoded images, on any machine: more would bind memory to their number
_DECODE_BATCH = 128


def holds_decoded(samples: int, pixels: int) -> bool:
    """Whether so many stored images of so many numbers are held; else batches are decoded anew."""
    return samples * pixels * torch.float32.itemsize <= _HELD_BYTES


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What students learn from.

    Attributes:
        name: in tables.
        images_per_class: its size.
        class_sizes: images of each class, int64 [C].
        draw: gives its epochs for a seed.
        augmented: whether students see them augmented, as the protocol says.
        quality: of the image codec that stores them, None where there is none.
    """

    name: str
    images_per_class: int
    class_sizes: np.ndarray
    draw: Callable[[int], Epochs]
    augmented: bool = True
    quality: int | None = None


def random_rows(artifact: Artifact, source: Source, seeds: int) -> np.ndarray:
    """The rows of the training split that the random baselines of `seeds` seeds draw: int64."""
    return np.concatenate(
        [sample_rows(source, **_random_options(artifact.metadata, seed)) for seed in range(seeds)]
    )


def _random_options(metadata: Metadata, seed: int) -> dict[str, int]:
    """Which images the random baseline of a seed has, as options of `draw_sample`."""
    spec = metadata.store
    ipc = bytes_to_ipc(metadata.budget, spec.num_classes, spec.channels, spec.image_size)
    return {
        "image_size": spec.image_size,
        "per_class": max(1, round(ipc)),
        "max_bytes": _CONTROL_BYTES,
        "seed": derive_seed(seed, "random control") % 2**32,
    }


class TrainingSets:
    """All that students of one evaluation can be taught with.

    Args:
        config: the split of the condensed images, and the number of seeds.
        artifact: its stored set lies on the device.
        source: the real images.
        protocol: batch size, and whether labels are soft.
        device: of the students.
        waiting: measures the time until images of `full` come.
    """

    def __init__(
        self,
        config: EvaluateConfig,
        artifact: Artifact,
        source: Source,
        protocol: Protocol,
        device: torch.device,
        waiting: DataTimer,
    ) -> None:
        self._config = config
        self._store = artifact.store
        self._metadata = artifact.metadata
        self._spec = artifact.metadata.store
        self._bytes = artifact.size
        self._source = source
        self._protocol = protocol
        self._device = device
        self._waiting = waiting
        self._index, labels = _chosen_samples(artifact, source.class_names, device)
        self._targets = labels
        self._class_sizes = np.bincount(labels.cpu().numpy(), minlength=len(source.class_names))
        if protocol.soft:
            self._targets = _soft_targets(artifact, source.class_names, self._index, labels)
        self.normalisation = Normalisation(artifact.metadata.mean, artifact.metadata.std)

    @property
    def condensed_images(self) -> int:
        """How many images of the file students learn from."""
        return len(self._index)

    def condensed(self) -> TrainingSet:
        """The file's own images: always the same, or fresh ones every epoch."""
        index, targets = self._index, self._targets

        def draw(seed: int) -> Epochs:
            if self._config.sampling == "fresh":
                return self._held(
                    targets, lambda epoch: self._images(index, named_rng(seed, "fresh", epoch))
                )
            stored = self._images(index, None)
            return self._held(targets, lambda epoch: stored)

        name = self._config.training_sets[0][0]
        return TrainingSet(name, self._spec.per_class, self._class_sizes, draw)

    def wanted(self, progress: Phase) -> list[TrainingSet]:
        """Those of `EvaluateConfig.training_sets`; `full` shows how far its epochs are."""
        kinds = self._config.training_sets
        made = {name: self._named(name, progress) for name in dict.fromkeys(n for n, _ in kinds)}
        return [replace(made[name], augmented=augmented) for name, augmented in kinds]

    def _named(self, name: str, progress: Phase) -> TrainingSet:
        if name == "jpeg":
            return self.coded("jpeg")
        if name == "avif":
            return self.coded("avif")
        if name == "full":
            return self.full(progress)
        made = {"random": self.random, "raw": self.raw}
        return made.get(name, self.condensed)()

    def random(self) -> TrainingSet:
        """As many random real images as the budget is in IPC; other ones for every seed."""
        return self._real("random", _random_options(self._metadata, 0)["per_class"])

    def raw(self) -> TrainingSet:
        """As many random real images as the file has samples: what its bytes cost in accuracy."""
        return self._real("raw", self._spec.per_class)

    def _real(self, name: str, per_class: int) -> TrainingSet:
        def options(seed: int) -> dict[str, int]:
            return _random_options(self._metadata, seed) | {"per_class": per_class}

        def draw(seed: int) -> Epochs:
            sample = draw_sample(self._source, **options(seed))
            images = self.normalisation(sample.images.to(self._device))
            return self._held(sample.labels, lambda epoch: images)

        rows = sample_rows(self._source, **options(0))
        sizes = self._sizes_of(self._source.train.labels[rows])
        return TrainingSet(name, per_class, sizes, draw)

    def coded(self, codec: CodecName) -> TrainingSet:
        """As many random real images as fit into the bytes of the file by an image codec.

        Of fewer classes, into their share of the bytes. Every seed has other images, but as many.

        Raises:
            InputError: not one of each class fits.
        """
        classes = len(self._source.class_names)
        max_bytes = self._bytes * classes // self._spec.num_classes
        options = {
            "image_size": self._spec.image_size,
            "max_bytes": max_bytes,
            "max_memory": _CONTROL_BYTES,
        }
        seeds = [
            _random_options(self._metadata, seed)["seed"] for seed in range(self._config.seeds)
        ]
        quality = self._config.baseline.quality
        if quality is None:
            quality = choose_quality(self._source, codec, seed=seeds[0], **options)
        fitting = [
            fit_coded(self._source, codec, quality=quality, seed=seed, **options) for seed in seeds
        ]
        per_class = min(each.per_class for each in fitting)
        if per_class == 0:
            raise InputError(
                f"{max_bytes:,} bytes are too few for one image of each of {classes} classes as "
                f"{codec.upper()} of quality {quality}: leave out --baseline {codec}, or lower "
                "--set baseline.quality"
            )

        def draw(seed: int) -> Epochs:
            kept = fitting[seed].first(per_class)
            images = self.normalisation(kept.decoded().to(self._device))
            return self._held(kept.labels, lambda epoch: images)

        sizes = self._sizes_of(fitting[0].first(per_class).labels.numpy())
        return TrainingSet(codec, per_class, sizes, draw, quality=quality)

    def full(self, progress: Phase) -> TrainingSet:
        """All real training images, streamed in another order for every seed."""
        train = self._source.train

        def tell(done: int) -> None:
            progress.advance(0, {"images": done} if done else {})

        def draw(seed: int) -> Epochs:
            return streamed(
                self._source,
                self._spec.image_size,
                self.normalisation,
                self._protocol,
                seed=derive_seed(seed, "full control"),
                device=self._device,
                tell=tell,
                waiting=self._waiting,
            )

        mean = round(len(train) / len(self._source.class_names))
        return TrainingSet("full", mean, self._sizes_of(train.labels), draw)

    def _sizes_of(self, labels: np.ndarray) -> np.ndarray:
        return np.bincount(labels, minlength=len(self._source.class_names))

    def _held(self, targets: Tensor, images_of: Callable[[int], Images]) -> Epochs:
        return held(images_of, targets.to(self._device), self._protocol)

    def _images(self, index: Tensor, rng: torch.Generator | None) -> Images:
        """The images of samples, or fresh ones: all at once, or batch by batch if that is much."""
        spec = self._spec
        decoded = _Decoded(self._store, self.normalisation, index, rng)
        few = holds_decoded(spec.samples, spec.channels * spec.image_size**2)
        return decoded.all() if few else decoded


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Normalised images of samples, decoded when they are asked for.

    Attributes:
        store: the stored set.
        normalisation: of the students' input.
        index: the samples, int64 [n].
        rng: of fresh images, which are drawn in the order in which they are asked for.
    """

    store: StoredSet
    normalisation: Normalisation
    index: Tensor
    rng: torch.Generator | None

    def all(self) -> Tensor:
        """Every one of them, float32 [n, channels, S, S]."""
        spec = self.store.spec
        shape = (len(self.index), spec.channels, spec.image_size, spec.image_size)
        images = torch.empty(shape, device=self.index.device)
        rows = torch.arange(len(self.index), device=self.index.device)
        for part, into in zip(rows.split(_DECODE_BATCH), images.split(_DECODE_BATCH), strict=True):
            into.copy_(self[part])
        return images

    @torch.no_grad()
    def __getitem__(self, rows: Tensor) -> Tensor:
        samples = self.index[rows]
        made = (
            self.store(samples) if self.rng is None else self.store.sample_around(samples, self.rng)
        )
        return self.normalisation(made)


def _chosen_samples(
    artifact: Artifact, class_names: tuple[str, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The stored samples of the classes, and their labels among them: int64 [n] each."""
    number = {name: label for label, name in enumerate(class_names)}
    new = torch.tensor([number.get(name, -1) for name in artifact.metadata.class_names])
    index = torch.arange(artifact.metadata.store.samples, device=device)
    labels = new.to(device)[artifact.store.labels(index)]
    return index[labels >= 0], labels[labels >= 0]


def _soft_targets(
    artifact: Artifact, class_names: tuple[str, ...], index: Tensor, labels: Tensor
) -> Tensor:
    """The stored probabilities float32 [n, C'] of samples, shared among the classes asked for.

    A sample without any probability of these keeps its hard label.
    """
    names = artifact.metadata.class_names
    place = {name: column for column, name in enumerate(names)}
    columns = torch.tensor([place[name] for name in class_names], device=index.device)
    parts = [artifact.store.targets(part)[:, columns] for part in index.split(_DECODE_BATCH)]
    kept = torch.cat(parts)
    total = kept.sum(1, keepdim=True)
    return torch.where(total > 0, kept / total, F.one_hot(labels, len(columns)).float())
