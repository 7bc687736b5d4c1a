"""The run directory: whose it is, whether it is finished, what it holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml

from gencond_fast.condensation.checkpoint import CHECKPOINTS, open_checkpoint
from gencond_fast.config import Config
from gencond_fast.config.options import differences, read_run_config, to_plain
from gencond_fast.errors import InputError
from gencond_fast.store.artifact import FILE_NAME, load
from gencond_fast.system.environment import describe
from gencond_fast.system.files import write_json, write_text

CONFIG_NAME = "config.yaml"
RELEASED = "released.pt"  # noised statistics of a private run
_ENVIRONMENT_NAME = "environment.json"
_NAMES = (
    CONFIG_NAME,
    _ENVIRONMENT_NAME,
    FILE_NAME,
    RELEASED,
    "metrics.jsonl",
    "real.png",
    "samples.png",
)


def find(config: Config, fingerprint: str) -> Path:
    """The run directory of `config`: as an earlier start left it, or still to be made.

    Args:
        config: all options; its data may lie elsewhere than at the earlier start.
        fingerprint: of the data.

    Raises:
        InputError: the directory belongs to a run with other options, holds something else, or
            cannot be made.
    """
    directory = Path(config.out)
    path = directory / CONFIG_NAME
    if path.exists():
        _refuse_other_options(config, path, fingerprint)
    elif directory.exists() and not (directory.is_dir() and _untouched(directory)):
        raise InputError(f"{directory} exists and is no run of gencond-fast: give another --out")
    place = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not place.is_dir():
        raise InputError(f"{directory} cannot be made ({place} is a file): give another --out")
    if not os.access(place, os.W_OK):
        raise InputError(f"{place} cannot be written (permission denied): give another --out")
    return directory


def earlier_data(directory: Path) -> str | None:
    """Where the data of the run lay at its first start; None where there was none."""
    path = directory / CONFIG_NAME
    return read_run_config(path).data if path.exists() else None


@contextmanager
def claimed(config: Config, directory: Path) -> Iterator[None]:
    """Makes the run directory, notes whose it is, and keeps other processes out meanwhile.

    Raises:
        InputError: it cannot be written, or another process works on it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(directory, error) from None
    try:
        _lock(lock, directory)
        _note(config, directory)
        _remove_leftovers(directory)
        yield
    finally:
        os.close(lock)


def _lock(handle: int, directory: Path) -> None:
    """The lock ends with the process, however that ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"another process works on {directory}: wait for it, or give another --out"
        ) from None


def _remove_leftovers(directory: Path) -> None:
    """Temporary files of a process that was killed while it wrote."""
    for name in (*_NAMES, f"{CHECKPOINTS}/step-*.pt"):
        place = directory / name
        for path in place.parent.glob(f".{place.name}.*"):
            path.unlink()


def _note(config: Config, directory: Path) -> None:
    try:
        path, was = directory / CONFIG_NAME, earlier_data(directory)
        if was != config.data:  # at the first start, or after the data was moved
            noted = config if was is None else replace(read_run_config(path), data=config.data)
            write_text(path, yaml.safe_dump(to_plain(noted), sort_keys=False))
        if not (directory / _ENVIRONMENT_NAME).exists():
            write_json(directory / _ENVIRONMENT_NAME, describe())
    except OSError as error:
        raise _unwritable(directory, error) from None


def _unwritable(directory: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"{directory} cannot be written ({reason}): give another --out")


def finished(directory: Path) -> bool:
    """Whether the run has its product; a damaged one is made again."""
    try:
        load(directory)
    except InputError:
        return False
    return True


def _untouched(directory: Path) -> bool:
    """Whether it holds at most what a start killed in `claim` leaves."""
    return all(path.name.startswith(f".{CONFIG_NAME}.") for path in directory.iterdir())


def _refuse_other_options(config: Config, path: Path, fingerprint: str) -> None:
    try:
        before = replace(read_run_config(path), out=config.out)
    except InputError as error:
        raise InputError(f"{path} is damaged ({error}): give another --out") from None
    # whoever meets a bad image half-way may go on without it
    before = replace(before, on_bad_image=config.on_bad_image, in_memory=config.in_memory)
    before = replace(before, training=replace(before.training, check=config.training.check))
    if "dali" not in (config.reader, before.reader):  # all others give the same pixels
        before = replace(before, reader=config.reader)
    if config.data != before.data and _is_data_of(fingerprint, path.parent):
        before = replace(before, data=config.data)
    changed = differences(config, before)
    if changed:
        raise InputError(
            f"{path.parent} is a run with other options ({'; '.join(changed)}): "
            "give the same options to continue it, or another --out"
        )


def _is_data_of(fingerprint: str, directory: Path) -> bool:
    """Whether the run has used this data, wherever it lay, or nothing was computed from any yet."""
    if not any((directory / name).exists() for name in (CHECKPOINTS, FILE_NAME, RELEASED)):
        return True
    saved = open_checkpoint(directory / CHECKPOINTS)
    if saved is not None:
        return saved.fingerprint == fingerprint
    try:
        return bool(load(directory).metadata.made.get("data") == fingerprint)
    except (InputError, OSError):
        return False
