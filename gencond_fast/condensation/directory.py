"""The run directory: whose it is, whether it is finished, what it holds."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from gencond_fast.artifact import FILE_NAME
from gencond_fast.config import Config, differences, parse, read_yaml, to_plain
from gencond_fast.environment import describe
from gencond_fast.errors import InputError
from gencond_fast.files import write_json, write_text

CONFIG_NAME = "config.yaml"


def claim(config: Config) -> Path:
    """Makes the run directory of `config`, or finds it as an earlier start left it.

    Raises:
        InputError: the directory belongs to a run with other options, holds something else, or
            cannot be written.
    """
    directory = Path(config.out)
    path = directory / CONFIG_NAME
    if path.exists():
        _refuse_other_options(config, path)
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory} exists and is no run of gencond_fast: give another --out")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(13, "permission denied")
        if not path.exists():
            write_json(directory / "environment.json", describe())
            write_text(path, yaml.safe_dump(to_plain(config), sort_keys=False))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{directory} cannot be written ({reason}): give another --out") from None
    return directory


def finished(directory: Path) -> bool:
    """Whether the run has its product."""
    return (directory / FILE_NAME).exists()


def read_config(directory: Path) -> Config:
    """The options that the run in `directory` was made with.

    Raises:
        InputError: there is no readable `config.yaml`.
    """
    return parse(Config, read_yaml(directory / CONFIG_NAME))


def _refuse_other_options(config: Config, path: Path) -> None:
    before = parse(Config, read_yaml(path) | {"out": config.out})
    changed = differences(config, before)
    if changed:
        raise InputError(
            f"{path.parent} is a run with other options ({'; '.join(changed)}): "
            "give the same options to continue it, or another --out"
        )
