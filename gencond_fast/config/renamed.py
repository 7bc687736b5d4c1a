"""Options of earlier versions under the names that they have now, so that old files still load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "networks.images_per_class": "networks.real_per_class",
    "networks.augmentations": "networks.num_augmentations",
    "networks.operations": "networks.augmentation",
    "losses.adversarial_rate": "losses.adversarial_lr",
    "training.start": "training.init",
    "training.choice": "training.selection",
    "training.warm_rate": "training.warm_lr",
    "training.match_rate": "training.match_lr",
    "training.warm_batch": "training.warm_batch_size",
    "training.ema": "training.ema_decay",
    "trajectory.rate": "trajectory.lr",
    "trajectory.start": "trajectory.max_start_epoch",
    "trajectory.batch": "trajectory.batch_size",
    "trajectory.inner_rate": "trajectory.inner_lr",
    "labels.teachers": "labels.source",
    "labels.augmentations": "labels.num_augmentations",
    "labels.hard": "labels.hard_label_weight",
}
_RENAMED_VALUES = {("labels.source", "teachers"): "full_data"}
# and the value with which they did nothing
_REMOVED = {"networks.epsilon": 0.0, "store.code_channels": None}
GONE = {
    "store.code_channels": "codes of a generator have no channels any more: leave it out, and set "
    "store.coefficients or store.width if you mean the sizes of codes or networks",
}


def current_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Flat options (`section.option: value`) of any version, as this version names them."""
    renamed = {
        RENAMED.get(name, name): value
        for name, value in options.items()
        if name not in _REMOVED or value != _REMOVED[name]
    }
    return {
        name: _RENAMED_VALUES.get((name, value), value) if isinstance(value, str) else value
        for name, value in renamed.items()
    }
