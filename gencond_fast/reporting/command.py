"""The command that a config came from, with everything spelled out."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from gencond_fast.config import PRIVATE, Config, LossConfig
from gencond_fast.config.options import changed_options, flatten, to_plain

# options of the command line that are options of the config by another spelling
_FLAGS = {
    "ipc": "--ipc",
    "bytes": "--bytes",
    "image_size": "--image-size",
    "val_fraction": "--val-fraction",
    "seed": "--seed",
    "on_bad_image": "--on-bad-image",
    "reader": "--reader",
    "device": "--device",
    "training.steps": "--steps",
    "store.format": "--format",
    "store.soft_labels": "--soft-labels",
    "privacy.epsilon": "--dp-epsilon",
    "privacy.delta": "--dp-delta",
}


def condense_command(config: Config, *, data: str, out: str) -> list[str]:
    """Arguments of the program that give this config, whatever preset or method it came from.

    Args:
        config: the options.
        data: what stands for the place of the data.
        out: what stands for the run directory.
    """
    changed = changed_options(config)
    if config.privacy.on:  # which brings defaults of its own
        values, brought = flatten(to_plain(config)), flatten(PRIVATE)
        changed |= {name: values[name] for name in brought}
    weights = config.losses.discrepancies
    arguments = ["condense", "--data", data, "--out", out]
    if dict(weights) != dict(LossConfig().discrepancies):
        for name, weight in weights.items():
            arguments += ["--discrepancy", f"{name}:{weight!r}"]
    for name, flag in _FLAGS.items():
        if name in changed:
            arguments += [flag, str(changed[name])]
    for name, value in changed.items():
        elsewhere = name in ("data", "out", *_FLAGS) or name.startswith("losses.discrepancies.")
        if not elsewhere:
            arguments += ["--set", f"{name}={_yaml(value)}"]
    return arguments


def show_command(arguments: list[str]) -> str:
    """A command as one types it, an option a line."""
    lines, line = [], "gencond-fast"
    for argument in arguments:
        if argument.startswith("--"):
            lines.append(line)
            line = "   "
        line += f" {shlex.quote(argument)}"
    return " \\\n".join([*lines, line])


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")
