"""What a user should know of data and budget before hours are spent on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from gencond_fast.condensation.task import Task
from gencond_fast.exporting.codecs import jpeg
from gencond_fast.store.labeller import LabellerSpec
from gencond_fast.store.spec import StoreSpec
from gencond_fast.system.bytes import format_bytes
from gencond_fast.system.words import counted

_LOOKED_AT = 100  # images whose JPEGs stand for all
_QUALITY = 75  # Pillow's default


def tell_rare_classes(task: Task, spec: StoreSpec, tell: Callable[[str], None]) -> None:
    """Says which classes have fewer images than there are stored samples of each."""
    names = task.source.class_names
    counts = np.bincount(task.source.train.labels, minlength=len(names))
    rare = int((counts < spec.per_class).sum())
    if not rare:
        return
    least = int(counts.argmin())
    tell(
        f"{counted(rare, 'rare class', 'rare classes')}: fewer images than the {spec.per_class} "
        f"samples stored per class (smallest: {names[least]!r} with {counts[least]:,}); their "
        "other samples are the same images, moved by a few pixels"
    )


def tell_labeller(labeller: LabellerSpec | None, tell: Callable[[str], None]) -> None:
    """Says that a part of the bytes goes to a labeller, which is trained at the end."""
    if labeller is not None:
        tell(
            f"{format_bytes(labeller.bytes)} of these bytes hold a network that labels augmented "
            f"views ({labeller.model}@{labeller.width}, for evaluate --protocol soft); --set "
            "labels.labeller=0 leaves it out"
        )


def tell_untested(task: Task, tell: Callable[[str], None]) -> None:
    """Says if the data have nothing to test students on, which shows only when all is done."""
    if task.source.val is None:
        tell(
            "the data have no test split with labels, so evaluate will have nothing to test on: "
            "--val-fraction 0.1 sets a tenth of the training images apart for it"
        )


def tell_large_budget(task: Task, budget: int, tell: Callable[[str], None]) -> None:
    """Says if all training images, as JPEG of the side that is stored, would take fewer bytes."""
    images, total = task.sample.images, len(task.source.train)
    chosen = torch.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).long()
    pixels = images[chosen].permute(0, 2, 3, 1).cpu().numpy()
    sizes = [jpeg(each, _QUALITY).own for each in pixels]
    whole = round(total * sum(sizes) / len(sizes))
    if whole < budget:
        tell(
            f"the budget of {format_bytes(budget)} is larger than all {total:,} training images as "
            f"JPEG of quality {_QUALITY} at {task.image_size} px, about {format_bytes(whole)}: "
            "those would serve as well, or give a smaller --bytes or --ipc"
        )
