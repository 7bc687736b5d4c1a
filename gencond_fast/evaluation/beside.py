"""Where a result lies that nobody gave a place: in the run directory, where `report` finds it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from gencond_fast.condensation.directory import CONFIG_NAME
from gencond_fast.config import EvaluateConfig, ScoreConfig
from gencond_fast.config.options import to_plain
from gencond_fast.store.artifact import FILE_NAME


def place_beside(config: EvaluateConfig | ScoreConfig) -> Path | None:
    """The JSON file for a result of these options, None where the file is not that of a run.

    The same options have the same place, so that a repetition replaces its result; others have
    another one, so that no result is lost. A second file in a run directory, such as one of
    `relabel --out`, has no place there: `report` would take the result for that of the run.

    Args:
        config: of the evaluation or comparison; paths in it need not be absolute.
    """
    run = Path(config.run).expanduser()
    directory = run if run.is_dir() else run.parent
    if not (directory / CONFIG_NAME).is_file() or run not in (directory, directory / FILE_NAME):
        return None
    options = to_plain(config) | {"run": "", "data": _absolute(config.data)}
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
    if isinstance(config, ScoreConfig):
        return directory / f"score-{digest[:8]}.json"
    return directory / f"evaluation-{config.protocol}-{config.epochs}-{digest[:8]}.json"


def _absolute(data: str) -> str:
    path = Path(data).expanduser()
    return str(path.absolute()) if path.exists() else data
