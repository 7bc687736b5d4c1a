"""What a run is, in words and numbers for people."""

from __future__ import annotations

from typing import Any

from gencond_fast.config import Config
from gencond_fast.config.options import flatten
from gencond_fast.reporting.record import Record
from gencond_fast.store.artifact import Metadata
from gencond_fast.store.budget import bytes_to_ipc
from gencond_fast.store.spec import StoreSpec
from gencond_fast.system.bytes import format_bytes

_FORMATS = {
    "dct": "quantised frequencies behind an entropy coder",
    "generator": "entropy-coded levels of blocks, and networks that all classes share",
    "pixels": "plain pixels",
}
_START = {
    "auto": "real images, or noise where the file is private",
    "real": "real images",
    "class_mean": "images drawn around the means of their classes: none is a training image",
    "noise": "noise: none is a training image",
}


def lead(record: Record) -> str:
    """One sentence: what the file is."""
    spec = record.artifact.metadata.store
    return (
        f"{spec.num_classes:,} classes of {record.data_name} condensed into one file of "
        f"{record.artifact.size:,} bytes, which decodes to {spec.samples:,} images of "
        f"{spec.image_size} × {spec.image_size} pixels for training networks from scratch."
    )


def facts(record: Record) -> dict[str, str]:
    """Names and values, in the order in which they are told."""
    config, artifact = record.config, record.artifact
    spec, made = artifact.metadata.store, artifact.metadata.made
    versions = made.get("versions")
    program = versions.get("gencond_fast") if isinstance(versions, dict) else None
    ipc = bytes_to_ipc(artifact.size, spec.num_classes, spec.channels, spec.image_size)
    return {
        "data": record.data_name,
        "fingerprint": str(made.get("data", "not recorded")),
        "classes": _classes(config, spec),
        "images": f"{spec.image_size} × {spec.image_size}, {_channels(spec)}",
        "format": f"{spec.format}: {_FORMATS[spec.format]}",
        "samples": f"{spec.samples:,}, {spec.per_class:,} per class",
        "started as": _START[config.training.init],
        "labels": _labels(artifact.metadata),
        "budget": _budget(config, artifact.metadata.budget),
        "in uint8 pixels": f"IPC {4 * ipc:.3g}",
        "minimised": _objective(config),
        "feature networks": _networks(config),
        "real images": _real(config),
        "steps": _steps(config),
        "seed": str(config.seed),
        **_privacy(made.get("privacy")),
        "made by": f"gencond-fast {program or 'of an unknown version'}",
    }


def _labels(metadata: Metadata) -> str:
    labeller, kept = metadata.labeller, metadata.store.soft_labels
    stored = f"soft, {kept} probabilities a sample" if kept else "hard"
    if labeller is None:
        return stored
    size = f"{labeller.model}@{labeller.width}, {labeller.bytes:,} bytes"
    return f"{stored}; of augmented views by a labeller ({size})"


def _privacy(guarantee: object) -> dict[str, str]:
    if not isinstance(guarantee, dict):
        return {}
    told = (f"{name.replace('_', ' ')} {value}" for name, value in guarantee.items())
    return {"privacy": "; ".join(told)}


def _steps(config: Config) -> str:
    matched, followed = config.training.steps or 0, config.trajectory.steps
    return f"{matched:,}, then {followed:,} of trajectories" if followed else f"{matched:,}"


def environment_facts(record: Record) -> dict[str, Any]:
    """Versions and machine, flat; a group whose names tell enough leaves its own out."""
    flat = flatten(record.environment or {})
    return {name.removeprefix("versions.").removeprefix("machine."): v for name, v in flat.items()}


def _channels(spec: StoreSpec) -> str:
    return "gray" if spec.channels == 1 else "colour"


def _classes(config: Config, spec: StoreSpec) -> str:
    return f"{spec.num_classes:,}" + (", a choice of those in the data" if config.classes else "")


def _budget(config: Config, budget: int) -> str:
    asked = f" = IPC {config.ipc} in float32 pixels" if config.ipc is not None else ""
    return f"{budget:,} bytes ({format_bytes(budget)}){asked}"


def _objective(config: Config) -> str:
    losses = config.losses
    terms = {**losses.discrepancies, f"intra-class ({losses.intra_kind})": losses.intra}
    terms |= {f"inter-class ({losses.inter_kind})": losses.inter}
    terms |= {"cross-entropy": losses.cross_entropy, "adversarial": losses.adversarial}
    return " + ".join(f"{weight:g} {name}" for name, weight in terms.items() if weight)


def _networks(config: Config) -> str:
    networks = config.networks
    kinds = {
        "random": networks.random,
        "trained": networks.trained,
        "interpolated": networks.interpolated,
    }
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    return f"{', '.join(networks.models)}, width {networks.width}: {counts}"


def _real(config: Config) -> str:
    share = config.val_fraction
    held = f", {100 * share:g} % of the training split held out" if share is not None else ""
    if config.networks.real_batch is not None:
        return f"{config.networks.real_batch:,} of a class in every step{held}"
    count = config.networks.real_per_class
    amount = "all" if count is None else f"up to {count:,} of a class"
    return f"{amount} behind the statistics{held}"
