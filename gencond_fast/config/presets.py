"""Choices of many options under one name: presets, and methods that lie over them."""

from __future__ import annotations

from typing import Any

from gencond_fast.config.steps import LARGE_STEPS, NOISE_STEPS, SMALL_SIDE, SMALL_STEPS

PRESETS: dict[str, dict[str, Any]] = {
    "standard": {},
    "quick": {"networks": {"width": 64, "random": 1, "trained": 3}},
    "accurate": {"networks": {"width": 64}, "trajectory": {"steps": 1000}},
}

# what each preset does, in words: for --help and the documentation
PRESET_TEXTS = {
    "standard": f"as many matching steps as still improve accuracy, {SMALL_STEPS} for images of up "
    f"to {SMALL_SIDE} pixels a side and {LARGE_STEPS or 'none'} above ({NOISE_STEPS} from noise "
    "or with another --method), on six feature networks of width 128",
    "quick": f"as many steps as standard, on four networks of width "
    f"{PRESETS['quick']['networks']['width']}",
    "accurate": "as many steps as standard, on six networks of width "
    f"{PRESETS['accurate']['networks']['width']}, then "
    f"{PRESETS['accurate']['trajectory']['steps']:,} of trajectory matching, which take the "
    "longest and which other methods leave out",
}

_ALONE: dict[str, Any] = {"intra": 0.0, "inter": 0.0, "cross_entropy": 0.0}
_REAL_BATCHES: dict[str, Any] = {
    **{"random": 20, "trained": 0, "train_images": 5000, "real_batch": 256},
    "real_per_class": 100,  # the statistics give no more than the scale
}
_FROM_REAL: dict[str, Any] = {"init": "real", "warm_start": 0.0, "batch_per_class": None}

# what students shall be good at
OBJECTIVES: dict[str, dict[str, Any]] = {
    "accuracy": {},
    # adversarially trained networks help as teachers; as feature networks they did not
    "robust": {"store": {"soft_labels": 10}, "labels": {"epsilon": 8.0}},
}

# beneath the preset: the steps of published systems, which match for long at any image size
METHOD_STEPS: dict[str, Any] = {"training": {"steps": NOISE_STEPS}}

# published systems, over the preset and under everything else; reasons: docs/guides/methods.md
_PUBLISHED: dict[str, dict[str, Any]] = {
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
            "augmentation": ("crop", "flip"),
        },
        "losses": _ALONE | {"discrepancies": {"batchnorm": 0.05}, "cross_entropy": 1.0},
        "labels": {"hard_label_weight": 0.0},
        "training": {"init": "noise", "warm_start": 0.0, "batch_per_class": 10},
    },
    "dim": {
        "store": {"format": "generator"},
        "networks": {"random": 0, "trained": 6},
        "losses": _ALONE | {"discrepancies": {"logit": 1.0}},
    },
}

# none of them matches trajectories or stores a labeller, whatever the preset says
METHODS: dict[str, dict[str, Any]] = {
    "gencond": {},
    **{
        name: options
        | {
            "trajectory": {"steps": 0},
            "labels": {"labeller": 0.0, **options.get("labels", {})},
        }
        for name, options in _PUBLISHED.items()
    },
}
