"""The labeller of a file: a small teacher, rounded to the bytes that it has there."""

from __future__ import annotations

from dataclasses import replace

from gencond_fast.condensation.task import Task
from gencond_fast.condensation.teachers import build_teachers
from gencond_fast.config import Config
from gencond_fast.config.steps import labeller_epochs
from gencond_fast.models.classifier import Classifier
from gencond_fast.store.labeller import Labeller, LabellerSpec
from gencond_fast.store.spec import StoreSpec
from gencond_fast.training.train import accuracy


def labeller_config(config: Config, spec: LabellerSpec, images: int) -> Config:
    """The options under which the labeller of a data set of so many images is the teacher."""
    epochs = labeller_epochs(config, images)
    teachers = replace(config.teachers, model=spec.model, width=spec.width, count=1, epochs=epochs)
    return replace(config, teachers=teachers)


def build_labeller(task: Task, spec: LabellerSpec | None, store: StoreSpec) -> Labeller | None:
    """Trains the network that a file has to label views, or takes it from the cache.

    Args:
        task: data, options, machine.
        spec: what the file says of it; None where there is none.
        store: the samples of the file.

    Raises:
        RunError: it diverged.
        OSError: the cache cannot be written.
    """
    if spec is None:
        return None
    images = len(task.source.train)
    task = replace(task, config=labeller_config(task.config, spec, images))
    (network,) = build_teachers(task)
    labeller = Labeller(spec, store)
    labeller.take(network)
    told = f"labeller: {spec.model}@{spec.width}, {spec.bytes:,} bytes"
    if task.config.val_fraction is not None:  # else the validation split is the test
        before, after = (_held_out(task, each) for each in (network, labeller.network))
        told += f"; {after:.1%} of held-out images right, {before:.1%} before it was rounded"
    task.reporter.message(told)
    return labeller


def _held_out(task: Task, network: Classifier) -> float:
    network = task.runtime.place(network)
    return accuracy(network, task.source, task.image_size, task.normalisation, task.runtime)
