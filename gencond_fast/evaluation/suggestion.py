"""What to do with a condensed file next: an evaluation that this machine can do, and its time."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import replace

import torch
from torch import Tensor

from gencond_fast.evaluation.codec_baseline import quality_of
from gencond_fast.exporting.codecs import jpeg
from gencond_fast.models.registry import ALL, build_classifier, choose_models
from gencond_fast.store.artifact import Artifact
from gencond_fast.store.budget import bytes_to_ipc, usual_sample_bytes
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training.epochs import held
from gencond_fast.training.protocol import PROTOCOLS, Protocol
from gencond_fast.training.trainer import Trainer

_EPOCHS = (1000, 300, 100)  # on the file; the first is the literature's
_LEAST_STEPS = 300  # of every student
_COMPILED = 0.6  # of the time of eager steps, measured with 16 to 256 images of 32 and 64 pixels
_COMPILING = 30.0  # seconds, once
_PATIENCE = 900.0  # seconds that the evaluation should not exceed
_SEEDS = 3  # the default of evaluate
_DEFAULT_MODEL = "convnet3"
_TIMED = 0.2  # seconds of training that are enough to know its speed
_TIMED_PIXELS = 2**16  # of the images of the timed steps


def suggest_evaluation(artifact: Artifact, *, run: str, data: str, device: str) -> str:
    """The command that evaluates a file, with a comment on how long it takes, if that is known.

    Args:
        artifact: the file.
        run: where it is.
        data: what it was condensed from.
        device: of the condensation; the speed of students is measured on a CPU alone.
    """
    spec = artifact.metadata.store
    model = choose_models((ALL,), spec.image_size)[0]
    sizes = _training_sets(artifact)
    runtime = choose_runtime("cpu" if device == "cpu" else "auto", "auto", "off", spec.image_size)
    protocol = PROTOCOLS["soft" if spec.soft_labels or artifact.labeller else "dc"]
    words = ["gencond-fast", "evaluate", run, "--data", data]
    if model != _DEFAULT_MODEL:
        words += ["--model", model]
    if protocol.soft:
        words += ["--protocol", protocol.name]
    if device != "auto":
        words += ["--device", device]
    seconds = start = 0.0
    if runtime.device.type == "cpu":
        images = sum(min(size, protocol.batch_size) for size in sizes.values())
        seconds = _SEEDS * images * _seconds_per_image(artifact, model, protocol)
        if _compiles(spec.image_size):
            seconds, start = _COMPILED * seconds, _COMPILING
    steps = _steps(seconds, sizes["stored"], protocol)
    words += ["--student-steps", str(steps)]
    comment = f"  # {_about(start + seconds * steps)}" if seconds else ""
    for baseline in list(sizes)[1:]:
        words += ["--baseline", baseline]
    return shlex.join(words) + comment


def _training_sets(artifact: Artifact) -> dict[str, int]:
    """Images of the file and of the baselines; those in JPEG are left out where none would fit."""
    spec = artifact.metadata.store
    shape = (spec.num_classes, spec.channels, spec.image_size)
    random = max(1, round(bytes_to_ipc(artifact.metadata.budget, *shape)))
    sizes = {"stored": spec.samples, "random": spec.num_classes * random}
    fitting = int(artifact.size / _jpeg_bytes(artifact) / spec.num_classes)
    certain = fitting >= 2  # an estimate of 1 may be none for the real images
    return sizes | ({"jpeg": spec.num_classes * fitting} if certain else {})


def _jpeg_bytes(artifact: Artifact) -> float:
    """Mean bytes of a few stored samples as the baseline `jpeg` would have them."""
    spec = artifact.metadata.store
    images = _decoded(artifact, torch.arange(min(8, spec.samples)) * (spec.samples // 8 or 1))
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    usual = usual_sample_bytes(
        artifact.size,
        num_classes=spec.num_classes,
        channels=spec.channels,
        image_size=spec.image_size,
    )
    quality = quality_of("jpeg", pixels, usual)
    return sum(jpeg(each, quality).own for each in pixels) / len(pixels)


@torch.no_grad()
def _decoded(artifact: Artifact, index: Tensor) -> Tensor:
    images: Tensor = artifact.store(index % artifact.metadata.store.samples)
    return images


def _seconds_per_image(artifact: Artifact, model: str, protocol: Protocol) -> float:
    """What a student takes for an image in an epoch, by a few steps of its training on the CPU."""
    spec, metadata = artifact.metadata.store, artifact.metadata
    runtime = choose_runtime("cpu", "auto", "off", spec.image_size)
    most = max(4, _TIMED_PIXELS // spec.image_size**2)
    index = torch.arange(min(most, protocol.batch_size, spec.samples))
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (metadata.mean, metadata.std))
    images = (_decoded(artifact, index) - mean) / std
    labels = artifact.store.labels(index)
    shape = (spec.channels, spec.num_classes, spec.image_size)
    network = runtime.place(build_classifier(model, *shape, seed=0))
    hard = replace(protocol, soft=False)
    data = held(lambda epoch: images, labels, hard)
    trainer = Trainer(network, data, protocol=hard, epochs=1000, seed=0, runtime=runtime)
    trainer.run_epoch(0)
    start, epochs = time.perf_counter(), 0
    shortest = math.inf  # other work on the machine only makes a step longer
    while epochs == 0 or time.perf_counter() - start < _TIMED:
        epochs += 1
        before = time.perf_counter()
        trainer.run_epoch(epochs)
        shortest = min(shortest, time.perf_counter() - before)
    return shortest / len(index)


def _compiles(image_size: int) -> bool:
    """Whether `evaluate` compiles its networks on this CPU unless told otherwise."""
    return choose_runtime("cpu", "auto", "auto", image_size).compiled


def _steps(seconds: float, stored: int, protocol: Protocol) -> int:
    """The most steps of a student that are not too long, and no fewer than it needs.

    Args:
        seconds: of a step of all students.
        stored: images of the file.
        protocol: its batch size.
    """
    each = math.ceil(stored / protocol.batch_size)
    wanted = [max(_LEAST_STEPS, epochs * each) for epochs in _EPOCHS] + [_LEAST_STEPS]
    return next((steps for steps in wanted if steps * seconds <= _PATIENCE), _LEAST_STEPS)


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes else "less than a minute"
